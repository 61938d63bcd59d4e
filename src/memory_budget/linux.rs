//! The memory of the machine and the limits of the control groups of this process.

use std::fs;
use std::path::{Path, PathBuf};

/// A higher value means no limit, in bytes. Control groups of version 1 show about 2^63 without a limit.
const NO_LIMIT: u64 = 1 << 60;

/// The least of the memory of the machine and the limits of the control groups of this process, in bytes.
pub(super) fn limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let directories = directories(&groups, &mounts);
    let group_limits = directories.iter().filter_map(|group| group.limit());
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| physical(&text));
    group_limits.chain(machine).min()
}

/// A control group: its directory, and the directory of the outermost visible group.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    directory: PathBuf,
    outermost: PathBuf,
    file: &'static str,
}

impl Group {
    /// The least limit of the group and of its ancestors.
    fn limit(&self) -> Option<u64> {
        let ancestors = self.directory.ancestors();
        let visible = ancestors.take_while(|directory| directory.starts_with(&self.outermost));
        visible
            .filter_map(|directory| bytes(&directory.join(self.file)))
            .min()
    }
}

fn bytes(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let limit = text.trim().parse().ok()?;
    (limit < NO_LIMIT).then_some(limit)
}

/// The control groups that limit memory, from `/proc/self/cgroup` and `/proc/self/mountinfo` (see `cgroups(7)`).
fn directories(groups: &str, mounts: &str) -> Vec<Group> {
    let lines = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    lines
        .filter_map(|(controllers, path)| match controllers {
            "" => Some((mount(mounts, "cgroup2", "")?, path, "memory.max")),
            _ if controllers.split(',').any(|name| name == "memory") => Some((
                mount(mounts, "cgroup", "memory")?,
                path,
                "memory.limit_in_bytes",
            )),
            _ => None,
        })
        .map(|((root, point), path, file)| {
            // In a container the mount may begin at the group of the container, while the path begins at the host.
            let inside = path.strip_prefix(root).unwrap_or("");
            let outermost = PathBuf::from(point);
            let directory = outermost.join(inside.trim_start_matches('/'));
            Group {
                directory,
                outermost,
                file,
            }
        })
        .collect()
}

/// The root and the mount point of the file system with this type and option.
fn mount<'a>(mounts: &'a str, kind: &str, option: &str) -> Option<(&'a str, &'a str)> {
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(3);
        let (root, point) = (words.next()?, words.next()?);
        let mut words = file_system.split(' ');
        let is_kind = words.next()? == kind;
        let options = words.next_back()?;
        let has_option = option.is_empty() || options.split(',').any(|found| found == option);
        let root = root.trim_end_matches('/');
        (is_kind && has_option).then_some((root, point))
    })
}

fn physical(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
23 1 254:0 / / rw,relatime - ext4 /dev/root rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn group(outermost: &str, directory: &str, file: &'static str) -> Group {
        Group {
            directory: directory.into(),
            outermost: outermost.into(),
            file,
        }
    }

    #[test]
    fn control_groups_of_both_versions_are_found() {
        let groups = "5:devices:/\n4:memory:/outer/inner\n0::/outer\n";
        let memory = "/sys/fs/cgroup/memory";
        let unified = "/sys/fs/cgroup/unified";
        let expected = [
            group(
                memory,
                "/sys/fs/cgroup/memory/outer/inner",
                "memory.limit_in_bytes",
            ),
            group(unified, "/sys/fs/cgroup/unified/outer", "memory.max"),
        ];
        assert_eq!(directories(groups, MOUNTS), expected);
    }

    #[test]
    fn a_container_that_sees_only_its_own_group_is_at_the_root() {
        let mounts = "9 8 0:30 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let here = group("/sys/fs/cgroup", "/sys/fs/cgroup/", "memory.max");
        assert_eq!(directories("0::/docker/abc\n", mounts), [here]);
        let mounts = "9 8 0:30 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let here = group("/sys/fs/cgroup", "/sys/fs/cgroup/", "memory.max");
        assert_eq!(directories("0::/\n", mounts), [here]);
    }

    #[test]
    fn the_least_limit_of_a_group_and_its_ancestors_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).expect("directories");
        let group = Group {
            directory: inner.clone(),
            outermost: root.path().to_owned(),
            file: "memory.max",
        };
        assert_eq!(group.limit(), None);
        fs::write(inner.join("memory.max"), "max\n").expect("a file");
        assert_eq!(group.limit(), None);
        fs::write(root.path().join("outer/memory.max"), "1000\n").expect("a file");
        assert_eq!(group.limit(), Some(1_000));
        fs::write(inner.join("memory.max"), "900\n").expect("a file");
        assert_eq!(group.limit(), Some(900));
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\n";
        assert_eq!(physical(text), Some(16 << 20));
    }
}
