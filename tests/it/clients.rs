//! Clients that other people wrote: libraries, generated code, a browser, a fuzzer, and the tour of the README.

pub(crate) mod browser;
mod generated;
mod guides;
pub(crate) mod libraries;
mod schemathesis;
mod shell;
mod tour;
mod typescript;
