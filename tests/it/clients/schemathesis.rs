//! Schemathesis sends requests that the OpenAPI document allows or forbids, and checks the answers against the
//! document.
//!
//! `PRESENCE_FUZZ_EXAMPLES` sets the number of random requests for each operation, and `PRESENCE_FUZZ_SEED` the seed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Settings;
use tempfile::TempDir;

const CONFIG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/clients/schemathesis/schemathesis.toml"
);

const HOOKS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/clients/schemathesis/hooks.py"
);

const KEY: &str = "fuzzing-key-0123456789";

/// Enough to use every parameter of every operation a few times. The streams decide how long it takes.
const EXAMPLES: &str = "10";

const SEED: &str = "1";

/// The number of workers. Most of them wait for streams.
const WORKERS: &str = "4";

/// The program that `tests/install` installed, or the one on the `PATH`.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let installed = target.map(|target| target.join("tools/schemathesis/bin/schemathesis"));
    installed
        .filter(|program| program.exists())
        .unwrap_or_else(|| "schemathesis".into())
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn run(base: &str, directory: &TempDir) -> Result<String, String> {
    let mut command = Command::new(program());
    command.args([
        "--config-file",
        CONFIG,
        "run",
        "--no-color",
        "--checks",
        "all",
        // An unknown group is empty, so a DELETE makes no later call 404.
        "--exclude-checks",
        "use_after_free",
    ]);
    command.args(["--workers", WORKERS]);
    command.args(["--seed", &variable("PRESENCE_FUZZ_SEED", SEED)]);
    command.args([
        "--max-examples",
        &variable("PRESENCE_FUZZ_EXAMPLES", EXAMPLES),
    ]);
    command.args(["--header", &format!("Authorization: Bearer {KEY}")]);
    command.arg(format!("{base}/openapi.json"));
    command.env("SCHEMATHESIS_HOOKS", HOOKS);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    // The working directory gets the other files of schemathesis.
    let output = command.current_dir(directory).output();
    let output = output.map_err(|error| format!("{error}; run tests/install"))?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(shown + &String::from_utf8_lossy(&output.stderr));
    }
    Ok(shown)
}

async fn the_service_conforms_to_its_openapi_document(store: Store) {
    let settings = Settings::new()
        .with(
            "PRESENCE_API_KEYS",
            &format!("fuzzer:presence.read+presence.write:{KEY}"),
        )
        .with("PRESENCE_STREAM_MAX_AGE", "1s");
    let deployment = Deployment::with(store, settings).await;
    let base = deployment.client().base().to_owned();
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let ran = tokio::task::spawn_blocking(move || run(&base, &directory));
    match ran.await.expect("no panic") {
        Ok(output) => println!("{output}"),
        Err(output) => panic!("schemathesis: {output}"),
    }
    let log = deployment.instances[0].log();
    assert!(!log.contains("\"ERROR\""), "no call failed within:\n{log}");
}

on_both_stores!(the_service_conforms_to_its_openapi_document);
