//! The query of calls that return pages.

use utoipa::IntoParams;

use super::error::Error;
use super::online::cursor::decode;
use super::query::{decoded, keep_once, parameters, unknown};
use crate::model::{PageCursor, Partitions};

/// The default size of a page, in users.
const DEFAULT_LIMIT: usize = 100;

/// The largest size of a page, in users.
const MAX_LIMIT: usize = 1_000;

/// The query of a page.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The largest number of users on the page, 1 to 1,000. Default: 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, example = 100)]
    limit: Option<String>,
    /// The `nextCursor` of the previous page. Absent for the first page.
    cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn read(query: &str) -> Result<Self, Error> {
        Self::read_parameters(query, |name, _| Err(unknown(name, &["limit", "cursor"])))
    }

    /// Reads a query that has the parameter `states`, too. `take` takes its value.
    pub(super) fn read_with_states(
        query: &str,
        mut take: impl FnMut(&str) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        Self::read_parameters(query, |name, value| {
            if name == "states" {
                take(value)
            } else {
                Err(unknown(name, &["limit", "cursor", "states"]))
            }
        })
    }

    fn read_parameters(
        query: &str,
        mut other: impl FnMut(&str, &str) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut read = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "limit" => keep_once(&mut read.limit, "limit", decoded("limit", value)?)?,
                "cursor" => keep_once(&mut read.cursor, "cursor", decoded("cursor", value)?)?,
                name => other(name, value)?,
            }
        }
        Ok(read)
    }

    /// The size of the page.
    pub(super) fn limit(&self) -> Result<usize, Error> {
        match self.limit.as_deref() {
            None => Ok(DEFAULT_LIMIT),
            Some(text) => parse_limit(text).ok_or(Error::InvalidLimit(MAX_LIMIT)),
        }
    }

    /// Where the page of a store with `partitions` begins.
    pub(super) fn cursor(&self, partitions: Partitions) -> Result<PageCursor, Error> {
        match self.cursor.as_deref() {
            None => Ok(PageCursor::START),
            Some(text) => decode(text, partitions).ok_or(Error::InvalidCursor),
        }
    }
}

/// Parses a page size. `None`: `text` is not a number from 1 to [`MAX_LIMIT`].
fn parse_limit(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = digits.then(|| text.parse().ok()).flatten();
    limit.filter(|limit| (1..=MAX_LIMIT).contains(limit))
}
