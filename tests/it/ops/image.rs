//! The binary in a container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use harness::process::Process;

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
