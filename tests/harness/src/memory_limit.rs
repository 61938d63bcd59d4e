//! A memory limit for one process, as a container has it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// The mount points of cgroup v1 and v2, and the file of the limit in each.
const GROUPS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ("/sys/fs/cgroup", "memory.max"),
];

/// Attempts to remove a control group. A group cannot be removed before its processes have ended.
const TRIES: u32 = 100;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A control group, or a limit of the address space if no group can be created.
#[derive(Debug)]
pub enum MemoryLimit {
    Group(PathBuf),
    AddressSpace(u64),
}

impl MemoryLimit {
    /// A limit of the address space, in MiB. Address space is more than resident memory.
    pub fn address_space_mib(mib: u64) -> Self {
        Self::AddressSpace(mib * 1_024)
    }

    /// A limit of `mib` MiB.
    pub fn mib(mib: u64) -> Self {
        let groups = GROUPS.iter().filter_map(|(root, file)| {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("presence-test-{}-{number}", process::id());
            group(&Path::new(root).join(name), file, mib).ok()
        });
        let group = { groups }.next().map(Self::Group);
        let limit = group.unwrap_or(Self::address_space_mib(mib));
        eprintln!("limited by {limit:?}");
        limit
    }

    /// The memory in use, in MiB, with that of the kernel for the process. `None` without a control group.
    pub fn used_mib(&self) -> Option<u64> {
        let Self::Group(group) = self else {
            return None;
        };
        let mut files = ["memory.usage_in_bytes", "memory.current"].iter();
        let read = files.find_map(|file| fs::read_to_string(group.join(file)).ok());
        let bytes: u64 = read?.trim().parse().ok()?;
        Some(bytes >> 20)
    }

    /// `command`, run within the limit.
    pub fn around(&self, command: &Command) -> Command {
        let enter = match self {
            Self::Group(group) => format!("echo $$ > {}/cgroup.procs", group.display()),
            Self::AddressSpace(kib) => format!("ulimit -v {kib}"),
        };
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("{enter} && exec \"$0\" \"$@\"")]);
        limited.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited
    }
}

fn group(directory: &Path, file: &str, mib: u64) -> io::Result<PathBuf> {
    fs::create_dir(directory)?;
    let bytes = (mib << 20).to_string();
    let limited = fs::write(directory.join(file), bytes);
    if limited.is_err() {
        let _ = fs::remove_dir(directory);
    }
    limited.map(|()| directory.to_owned())
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Self::Group(group) = self {
            for _ in 0..TRIES {
                if fs::remove_dir(&*group).is_ok() {
                    return;
                }
                sleep(Duration::from_millis(20));
            }
        }
    }
}
