//! Whole numbers within bounds.

use std::fmt::Display;
use std::str::FromStr;

/// Parses a number from `least` to `most`.
pub(super) fn bounded<N>(text: &str, least: N, most: N) -> Result<N, String>
where
    N: FromStr + PartialOrd + Display,
{
    match text.parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(format!("must be a number from {least} to {most}")),
    }
}
