//! The programs in `docs/native.md`.

use std::process::Command;

use super::path_of;
use crate::clients::libraries::installed;

const PARSER: &str = "tests/clients/parse.py";

/// The longest program of the guide, in lines.
const LINES: usize = 100;

#[test]
fn the_programs_for_phones_are_short_and_parse() {
    for file in ["Presence.swift", "Presence.kt", "presence.dart"] {
        let file = path_of("examples/phone").join(file);
        let program = std::fs::read_to_string(&file).expect("the program");
        assert!(program.lines().count() < LINES, "{}", file.display());
        let mut command = Command::new(installed("clients-python/bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.arg(path_of(PARSER)).arg(&file).output();
        let output = output.expect("Python");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
    }
}
