//! The number of partitions of the users.

use crate::model::Partitions;

/// Parses the number of partitions.
pub(super) fn parse(text: &str) -> Result<Partitions, String> {
    let partitions = text.parse().ok().and_then(Partitions::new);
    partitions.ok_or_else(|| "must be 1, 16, 32, 64, 128 or 256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_of_partitions_is_accepted() {
        for (text, count) in [("1", 1), ("16", 16), ("256", 256)] {
            assert_eq!(parse(text).map(Partitions::count), Ok(count));
        }
        for text in [
            "", "0", "2", "8", "17", "512", "65552", "-1", "16.0", "many",
        ] {
            let why = "must be 1, 16, 32, 64, 128 or 256".to_owned();
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }
}
