//! The guides in `docs/` and the programs in `examples/`. Every program in a guide is a file of `examples/`, and every
//! file runs.

mod back_ends;
mod jobs;
mod native;
mod pages;
mod phones;
mod started;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::instance::Settings;
use serde_json::{Value, json};

use super::libraries::installed;
use super::shell::bash;
use crate::auth::Signer;
use crate::contract::documents::documents;

const GUIDES: [&str; 5] = [
    include_str!("../../../docs/pages.md"),
    include_str!("../../../docs/phones.md"),
    include_str!("../../../docs/back-ends.md"),
    include_str!("../../../docs/native.md"),
    include_str!("../../../docs/typescript.md"),
];
const PHONES: &str = GUIDES[1];
const BACK_ENDS: &str = GUIDES[2];

pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(super) const KEY: &str = "key-of-the-back-end-0123";

/// One code block of a guide.
pub(super) struct Block<'a> {
    pub(super) language: &'a str,
    /// The file with the same content, if the guide names one.
    file: Option<&'a str>,
    pub(super) code: &'a str,
}

pub(super) fn blocks(guide: &str) -> impl Iterator<Item = Block<'_>> {
    // Every second part is between two fences.
    let parts = guide.split("```").skip(1).step_by(2);
    parts.map(|part| {
        let (info, code) = part.split_once('\n').expect("an end of the first line");
        let (language, file) = match info.split_once(' ') {
            Some((language, file)) => (language, Some(file)),
            None => (info, None),
        };
        Block {
            language,
            file,
            code,
        }
    })
}

fn shell_blocks(guide: &str) -> Vec<&str> {
    let blocks = blocks(guide).filter(|block| block.language == "sh");
    blocks.map(|block| block.code).collect()
}

/// A file or folder of this repository.
fn path_of(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The settings that the guides assume.
pub(super) fn settings() -> Settings {
    let keys = format!("back-end:presence.read+presence.write:{KEY}");
    Settings::new()
        .with("PRESENCE_JWT_SECRET", SECRET)
        .with("PRESENCE_API_KEYS", &keys)
}

/// A token for `user` with the claim `watch`.
fn token(user: &str, watch: &Value) -> String {
    token_for(user, watch, 600)
}

/// A token that expires in `seconds` seconds, or has expired for a negative number.
pub(super) fn token_for(user: &str, watch: &Value, seconds: i64) -> String {
    let claims = json!({"sub": user, "exp": seconds_from_now(seconds), "watch": watch});
    Signer::secret(SECRET.as_bytes()).token(&claims)
}

/// The moment in this many seconds, or before so many for a negative number, as a token states it.
pub(super) fn seconds_from_now(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a clock after 1970").as_secs();
    now.saturating_add_signed(seconds)
}

/// The command that runs a Python program of `examples/` against the service at `url`.
fn program_in_python(file: &str, url: &str) -> Command {
    let mut command = python(url);
    command.arg(path_of(file));
    command
}

/// Python with the libraries of the examples and access to the service at `url`.
fn python(url: &str) -> Command {
    let mut command = Command::new(installed("clients-python/bin/python"));
    give_access(&mut command, url);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn give_access(command: &mut Command, url: &str) {
    let access = [
        ("PRESENCE_URL", url),
        ("PRESENCE_KEY", KEY),
        ("PRESENCE_JWT_SECRET", SECRET),
    ];
    command.envs(access);
}

/// A bash that runs shell commands of a guide with `variables`.
fn bash_with(commands: &str, variables: &[(&str, &str)]) -> Command {
    let mut bash = bash(commands);
    bash.envs(variables.iter().copied());
    bash
}

/// The documents whose shell blocks are run, besides the pages of `docs/guides/`.
const WITH_SHELL_BLOCKS: [&str; 5] = [
    "README.md",
    "docs/back-ends.md",
    "docs/phones.md",
    "docs/webhooks.md",
    "examples/README.md",
];

#[test]
fn every_document_with_shell_blocks_is_run() {
    let is_run = |path: &str| path.starts_with("docs/guides/") || WITH_SHELL_BLOCKS.contains(&path);
    for (path, content) in documents() {
        let names = blocks(&content).map(|block| block.language.to_owned());
        let names: Vec<String> = names.collect();
        let is_shell = |name: &String| ["bash", "console", "shell"].contains(&&**name);
        assert!(
            !names.iter().any(is_shell),
            "{path}: write sh, not {names:?}"
        );
        let has_commands = names.iter().any(|name| name == "sh");
        assert!(
            !has_commands || is_run(&path),
            "no test runs the blocks of {path}"
        );
    }
}

#[test]
fn every_program_in_a_guide_is_a_file_of_examples() {
    for block in GUIDES.iter().flat_map(|guide| blocks(guide)) {
        match (block.language, block.file) {
            // The block is run directly, or only shown.
            ("sh" | "json", None) => {}
            // `typescript` compiles the block.
            ("ts" | "tsx", None) => {}
            ("js" | "python" | "html" | "swift" | "kotlin" | "dart", Some(file)) => {
                let content = std::fs::read_to_string(path_of(file)).expect(file);
                assert_eq!(block.code, content, "{file} differs from the guide");
            }
            (language, file) => panic!("no test runs a block of {language} {file:?}"),
        }
    }
}
