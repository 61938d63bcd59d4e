//! A whole number of any size in JSON.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A whole number. One that is out of every bound is kept as one that is out of bounds, so that the error states the
/// bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WholeNumber(i64);

impl WholeNumber {
    /// The number, if it is from `least` to `most`.
    fn within(self, least: u64, most: u64) -> Option<u64> {
        let number = u64::try_from(self.0).ok();
        number.filter(|number| (least..=most).contains(number))
    }

    /// The number as milliseconds, if it is within the bounds; else the bounds.
    pub(crate) fn millis_within(self, (least, most): (u64, u64)) -> Result<Duration, (u64, u64)> {
        let number = self.within(least, most).ok_or((least, most))?;
        Ok(Duration::from_millis(number))
    }
}

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNumber)
    }
}

struct AnyNumber;

impl Visitor<'_> for AnyNumber {
    type Value = WholeNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<WholeNumber, E> {
        Ok(WholeNumber(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<WholeNumber, E> {
        Ok(WholeNumber(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<WholeNumber, E> {
        if number.fract() != 0.0 {
            return Err(E::invalid_type(serde::de::Unexpected::Float(number), &self));
        }
        // A float beyond the range of integers becomes the nearest integer.
        Ok(WholeNumber(number as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_number_is_in_or_out_of_the_bounds() {
        for (text, expected) in [
            ("1000", Some(Some(1_000))),
            ("1e3", Some(Some(1_000))),
            ("1000.0", Some(Some(1_000))),
            ("999", Some(None)),
            ("-1000", Some(None)),
            ("1e300", Some(None)),
            ("-1e300", Some(None)),
            ("18446744073709551616", Some(None)),
            ("1000.5", None),
            ("\"1000\"", None),
            ("true", None),
        ] {
            let number = serde_json::from_str::<WholeNumber>(text).ok();
            let within = number.map(|number| number.within(1_000, 2_000));
            assert_eq!(within, expected, "{text}");
        }
    }
}
