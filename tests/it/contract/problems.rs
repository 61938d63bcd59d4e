//! Bad input gets a problem document that names the error, and changes nothing.

mod bodies;
mod conflicts;
mod headers;
mod ids;
mod lines;
mod names;
mod queries;
mod refused_streams;
mod routes;
mod store;

use harness::client::{Answer, media_type};
use serde::Deserialize;

/// A problem document (RFC 9457) with the members of the contract.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
}

/// Reads a problem document and checks what holds for all of them.
pub(crate) fn problem(answer: &Answer, status: u16) -> Problem {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert_eq!(
        media_type(&answer.headers),
        "application/problem+json",
        "{}",
        answer.body
    );
    let problem: Problem = serde_json::from_str(&answer.body)
        .unwrap_or_else(|error| panic!("not a problem document: {error}: {}", answer.body));
    assert_eq!(problem.status, status, "{problem:?}");
    assert!(
        !problem.title.is_empty() && !problem.detail.is_empty(),
        "{problem:?}"
    );
    assert!(
        !problem.kind.is_empty() && problem.kind != "about:blank",
        "{problem:?}"
    );
    problem
}
