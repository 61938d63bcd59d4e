//! The binary in a container, and the image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::process::Process;
use serde_json::Value;

/// The user `nobody` on most systems.
const PLAIN_USER: u32 = 65_534;

/// A temporary folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("presence-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, open).expect("a folder that everyone may enter");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Files that stay in the temporary folder do no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_binary_starts_from_an_empty_folder_as_a_plain_user() {
    let (home, bin) = (Folder::new("empty"), Folder::new("bin"));
    let binary = bin.0.join("presence");
    fs::copy(env!("CARGO_BIN_EXE_presence"), &binary).expect("a copy");
    let mut command = Command::new(&binary);
    command.env_clear().current_dir(&home.0);
    command.env("PRESENCE_LISTEN", "127.0.0.1:0");
    let root = fs::metadata(&home.0).map(|folder| std::os::unix::fs::MetadataExt::uid(&folder));
    if root.expect("a folder") == 0 {
        command.uid(PLAIN_USER).gid(PLAIN_USER);
    }
    let mut process = Process::spawn("presence", &mut command);
    let greeting = process
        .line()
        .await
        .unwrap_or_else(|| panic!("{}", process.log()));
    assert!(greeting.contains("listening"), "{greeting}");
    let left = fs::read_dir(&home.0).expect("a folder").count();
    assert_eq!(left, 0, "no file is left");
}

#[cfg(target_os = "linux")]
#[test]
fn the_binary_needs_only_the_c_library() {
    let output = Command::new("ldd")
        .arg(env!("CARGO_BIN_EXE_presence"))
        .output();
    let output = output.expect("ldd is part of the C library");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in listed
        .lines()
        .filter(|line| !line.contains("statically linked"))
    {
        let library = line.trim().split(['.', ' ']).next().unwrap_or_default();
        let name = library.rsplit('/').next().unwrap_or_default();
        let known = [
            "linux-vdso",
            "libc",
            "libm",
            "libgcc_s",
            "libpthread",
            "libdl",
        ];
        let loader = name.starts_with("ld-linux") || name.starts_with("ld-musl");
        assert!(known.contains(&name) || loader, "{line}");
    }
}

const ASSEMBLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/assemble.py");

/// Runs a program to its end, and returns its standard output.
fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("an installed program");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {log}");
    output.stdout
}

/// The blob of a descriptor, after a check of its digest and its size.
fn blob(image: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().expect("a digest");
    let digest = digest.strip_prefix("sha256:").expect("SHA-256");
    let path = image.join("blobs/sha256").join(digest);
    let sum = output(Command::new("sha256sum").arg(&path));
    assert!(sum.starts_with(digest.as_bytes()), "{digest}");
    let bytes = fs::read(&path).expect("a blob");
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn document(image: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&blob(image, descriptor)).expect("JSON")
}

#[test]
fn the_image_has_the_binary_of_each_architecture_and_nothing_else() {
    let folder = Folder::new("image");
    let (amd64, arm64) = (folder.0.join("a"), folder.0.join("b"));
    fs::write(&amd64, "first").expect("a file");
    fs::write(&arm64, "second").expect("a file");
    let binaries = [("amd64", &amd64), ("arm64", &arm64)];
    let binaries = binaries.map(|(arch, path)| format!("{arch}={}", path.display()));
    let assemble = || {
        let mut command = Command::new("python3");
        command.args([ASSEMBLE, "1.2.3"]).arg(&folder.0);
        output(
            command
                .args(&binaries)
                .env("SOURCE_DATE_EPOCH", "1795000000"),
        );
        fs::read(folder.0.join("presence-1.2.3-image.tar")).expect("an image")
    };
    assert_eq!(
        assemble(),
        assemble(),
        "the same input gives the same image"
    );

    let image = &folder.0;
    let unpack = |archive: &Path| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(image).arg("-xf").arg(archive);
        output(&mut command);
    };
    unpack(&image.join("presence-1.2.3-image.tar"));
    let top = fs::read(image.join("index.json")).expect("an index");
    let top: Value = serde_json::from_slice(&top).expect("JSON");
    let index = document(image, &top["manifests"][0]);
    let manifests = index["manifests"].as_array().expect("manifests");
    assert_eq!(manifests.len(), 2);
    for (manifest, (arch, text)) in manifests
        .iter()
        .zip([("amd64", "first"), ("arm64", "second")])
    {
        assert_eq!(manifest["platform"]["architecture"], arch);
        let manifest = document(image, manifest);
        let config = document(image, &manifest["config"]);
        assert_eq!(config["architecture"], arch);
        assert_eq!(config["config"]["User"], "65532:65532");
        let layer = image.join("layer.tar.gz");
        fs::write(&layer, blob(image, &manifest["layers"][0])).expect("a file");
        let listed = output(Command::new("tar").arg("-tzf").arg(&layer));
        assert_eq!(String::from_utf8_lossy(&listed), "presence\n");
        unpack(&layer);
        let binary = image.join("presence");
        assert_eq!(fs::read_to_string(&binary).expect("a binary"), text);
        let mode = fs::metadata(&binary).expect("a binary").permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);
    }
}
