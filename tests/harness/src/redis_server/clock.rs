//! An adjustable wall clock for a server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const SHIM: &str = include_str!("clock.c");

pub(super) struct Clock {
    directory: TempDir,
}

impl Clock {
    /// Compiles the library that replaces the clock. The clock shows the true time at first.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let clock = Self { directory };
        let source = clock.path("clock.c");
        fs::write(&source, SHIM).expect("room for the shim");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        compiler.arg(clock.path("clock.so")).arg(source);
        let compiled = compiler.status().expect("a C compiler");
        assert!(compiled.success(), "{compiler:?}");
        clock.set_ahead(0);
        clock
    }

    /// Makes the process of `command` use this clock.
    pub(super) fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.path("clock.so"));
        command.env("PRESENCE_TEST_CLOCK", self.path("shift"));
    }

    pub(super) fn set_ahead(&self, ms: i64) {
        // The file is written in place because the server has mapped it.
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false);
        let mut file = file.open(self.path("shift")).expect("a file of ours");
        file.write_all(&ms.to_le_bytes())
            .expect("room for eight bytes");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
