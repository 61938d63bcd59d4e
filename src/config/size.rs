//! Sizes as operators write them: `64kb`, `256mb`, `1gb`.

const UNITS: [(&str, u64); 3] = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)];

/// Parses a size from `least` to `most`, in bytes.
pub(super) fn bounded(text: &str, least: &str, most: &str) -> Result<u64, String> {
    let bytes = parse(text).ok_or("must be a size such as 64kb, 256mb or 1gb")?;
    if parse(least).is_some_and(|least| bytes < least)
        || parse(most).is_some_and(|most| bytes > most)
    {
        return Err(format!("must be from {least} to {most}"));
    }
    Ok(bytes)
}

/// Parses a whole number and a unit. The units are powers of 1,024, as in the configuration of Redis.
fn parse(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let number = |(unit, size): &(&str, u64)| Some((text.strip_suffix(unit)?.to_owned(), *size));
    let (number, size) = UNITS.iter().find_map(number)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_and_a_unit() {
        for (text, bytes) in [
            ("64kb", Some(65_536)),
            ("256mb", Some(268_435_456)),
            ("1GB", Some(1_073_741_824)),
            ("0mb", Some(0)),
            ("18446744073709551615kb", None),
            ("1.5gb", None),
            ("+1gb", None),
            ("-1gb", None),
            ("mb", None),
            ("", None),
            ("256", None),
            ("256m", None),
            ("256 mb", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_size_is_within_its_bounds() {
        let read = |text| bounded(text, "64kb", "1gb");
        assert_eq!(read("64kb"), Ok(65_536));
        assert_eq!(read("1024mb"), Ok(1 << 30));
        for text in ["63kb", "2gb"] {
            let why = "must be from 64kb to 1gb".to_owned();
            assert_eq!(read(text), Err(why), "{text}");
        }
    }
}
