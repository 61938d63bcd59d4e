//! Bad input: a problem document that says what is wrong, and nothing done.

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

/// RFC 9457, with the members the contract promises.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
}

/// Reads a problem document and checks what holds for every one.
fn problem(answer: &Answer, status: u16) -> Problem {
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
