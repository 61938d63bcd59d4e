//! The emulator of AWS Lambda in `cargo lambda watch`, which `tests/install` installs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::client::Client;
use harness::process::Process;
use harness::redis_server::free_port;
use harness::wait::until_accepted;
use tempfile::TempDir;

/// The emulator reads the manifest of a package, and builds nothing.
const MANIFEST: &str = "\
[package]
name = \"presence\"
version = \"0.1.0\"
edition = \"2024\"
[[bin]]
name = \"presence\"
path = \"main.rs\"
[workspace]
";

/// A running emulator. Its address is the URL of the function.
pub(super) struct Emulator {
    address: SocketAddr,
    _process: Process,
    _package: TempDir,
}

impl Emulator {
    pub(super) async fn start() -> Self {
        let package = TempDir::new().expect("a folder");
        fs::write(package.path().join("Cargo.toml"), MANIFEST).expect("a file");
        fs::write(package.path().join("main.rs"), "fn main() {}").expect("a file");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new(program());
        command
            .args(["lambda", "watch", "--only-lambda-apis"])
            .args(["--invoke-address", &address.ip().to_string()])
            .args(["--invoke-port", &address.port().to_string()])
            .current_dir(package.path())
            .env("CARGO_NET_OFFLINE", "true");
        let process = Process::spawn("cargo-lambda", &mut command);
        until_accepted(address).await;
        Self {
            address,
            _process: process,
            _package: package,
        }
    }

    /// A client of the URL of the function.
    pub(super) fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address))
    }

    /// The address of the runtime API.
    pub(super) fn runtime_api(&self) -> String {
        format!("http://{}/.rt", self.address)
    }
}

/// The program that `tests/install` installed, or the one on the `PATH`.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let installed = target.map(|target| target.join("tools/lambda-python/bin/cargo-lambda"));
    installed
        .filter(|program| program.exists())
        .unwrap_or_else(|| "cargo-lambda".into())
}
