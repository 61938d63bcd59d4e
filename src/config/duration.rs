//! Durations as operators write them: `500ms`, `60s`, `10m`, `30d`.

use std::time::Duration;

/// Parses a duration from `least` to `most`.
pub(super) fn bounded(text: &str, least: &str, most: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; must be a duration such as 60s, 500ms or 10m"))?;
    let is_below =
        |bound: &str| humantime::parse_duration(bound).is_ok_and(|bound| duration < bound);
    let is_above =
        |bound: &str| humantime::parse_duration(bound).is_ok_and(|bound| duration > bound);
    if is_below(least) || is_above(most) {
        return Err(format!("must be from {least} to {most}"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    proptest! {
        #[test]
        fn a_duration_is_a_number_with_a_unit_within_its_bounds(
            number in prop_oneof![0_u64..200, any::<u64>(), select(vec![1, 7, 10, 24, 100, 3_600, 3_650])],
            (unit, unit_ms) in select(vec![("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000_u128)]),
            (least, least_ms) in select(vec![("0s", 0), ("10ms", 10), ("100ms", 100), ("1s", 1_000)]),
            (most, most_ms) in select(vec![("10s", 10_000), ("1h", 3_600_000), ("1d", 86_400_000), ("3650d", 315_360_000_000)]),
        ) {
            let text = format!("{number}{unit}");
            let given = u128::from(number) * unit_ms;
            let expected = Some(given).filter(|given| (least_ms..=most_ms).contains(given));
            let read = bounded(&text, least, most);
            prop_assert_eq!(read.ok().map(|read| read.as_millis()), expected, "{}", text);
        }

        #[test]
        fn a_text_without_a_unit_is_not_a_duration(text in "[0-9]{1,30}|[a-z]{0,9}|-[0-9]{1,3}s|[0-9.]{1,9}[x-z]{1,3}|\\PC{0,8}") {
            prop_assume!(!text.chars().any(char::is_alphabetic) || !text.starts_with(|c: char| c.is_ascii_digit() || c.is_whitespace()));
            prop_assert_eq!(bounded(&text, "100ms", "1d").is_ok(), false, "{}", text);
        }
    }
}
