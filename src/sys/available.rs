//! How much memory this process can still have: what the system has available, and what each memory cgroup around the
//! process leaves (proc_meminfo(5), cgroups(7)).
//!
//! A file that the system does not have, or that cannot be parsed, limits nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that can still be allocated; `u64::MAX` if nothing is known.
pub(crate) fn available() -> u64 {
    available_by(|path| fs::read_to_string(path).ok())
}

/// [`available`], with a function that reads a file.
fn available_by(read: impl Fn(&Path) -> Option<String>) -> u64 {
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let meminfo = text("/proc/meminfo");
    let kib = |name| field(&meminfo, name).map(|kib| kib.saturating_mul(1024));
    let swap = kib("SwapFree:").unwrap_or(0);
    let system = kib("MemAvailable:").map(|memory| memory.saturating_add(swap));
    let (groups, mounts) = (text("/proc/self/cgroup"), text("/proc/self/mountinfo"));
    let folders = [Version::One, Version::Two].into_iter().flat_map(|version| {
        let folders = folders(version, &groups, &mounts);
        folders.into_iter().map(move |folder| (version, folder))
    });
    let left = folders.filter_map(|(version, folder)| version.left(swap, |name| read(&folder.join(name))));
    system.into_iter().chain(left).min().unwrap_or(u64::MAX)
}

/// Bytes, 2^62, from which on a limit is none: version 1 shows the greatest number of pages instead.
const NO_LIMIT: u64 = 1 << 62;

/// The version of a hierarchy of cgroups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    One,
    Two,
}

impl Version {
    /// Bytes that a group leaves; `None` if it has no limit, and then little is read. `swap` is what the system has,
    /// `read` reads a file of the group.
    fn left(self, swap: u64, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let left = |limit, usage| {
            let limit = number(limit).filter(|limit| *limit < NO_LIMIT)?;
            Some(limit.saturating_sub(number(usage)?))
        };
        // The pages of files can be freed. Those of memory files are not among them.
        let cache = |names: [&str; 2]| {
            let stat = read("memory.stat").unwrap_or_default();
            names.iter().filter_map(|name| field(&stat, name)).fold(0, u64::saturating_add)
        };
        match self {
            Self::One => {
                let memory = left("memory.limit_in_bytes", "memory.usage_in_bytes")?.saturating_add(swap);
                let both = left("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes").unwrap_or(memory);
                Some(memory.min(both).saturating_add(cache(["total_inactive_file", "total_active_file"])))
            }
            Self::Two => {
                let memory = left("memory.max", "memory.current")?;
                let swap = left("memory.swap.max", "memory.swap.current").map_or(swap, |left| left.min(swap));
                Some(memory.saturating_add(swap).saturating_add(cache(["inactive_file", "active_file"])))
            }
        }
    }

    /// True for a mount of this hierarchy, by its type and its options.
    fn is_mount(self, kind: &str, options: &str) -> bool {
        match self {
            Self::One => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
            Self::Two => kind == "cgroup2",
        }
    }

    /// True for the line of this hierarchy in `/proc/self/cgroup`, by its number and its controllers.
    fn is_line(self, number: &str, controllers: &str) -> bool {
        match self {
            Self::One => controllers.split(',').any(|controller| controller == "memory"),
            Self::Two => number == "0" && controllers.is_empty(),
        }
    }
}

/// The folders of the groups around this process, by the contents of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn folders(version: Version, groups: &str, mounts: &str) -> BTreeSet<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        version.is_line(number, controllers).then_some(Path::new(path))
    });
    let Some(path) = path else { return BTreeSet::new() };
    // Number, parent, device, root, mount point, options, any number of tags, a hyphen, type, source, options.
    let mounts = mounts.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let (mut front, mut back) = (front.split(' ').skip(3), back.split(' '));
        let (root, point) = (front.next()?, front.next()?);
        version.is_mount(back.next()?, back.nth(1)?).then_some((Path::new(root), Path::new(point)))
    });
    mounts.flat_map(|(root, point)| around(path, root, point)).collect()
}

/// The folders of the group at `path` and of those around it, under a mount of the group `root` at `point`. A group
/// that is not under the mount, as in some containers, shows the limits of the mount itself.
fn around(path: &Path, root: &Path, point: &Path) -> Vec<PathBuf> {
    let below = path.strip_prefix(root).ok().filter(|below| !below.starts_with(".."));
    let folder = below.map_or(point.to_owned(), |below| point.join(below));
    folder.ancestors().take_while(|folder| folder.starts_with(point)).map(Path::to_owned).collect()
}

/// The number behind `name`, at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next()? == name { words.next()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const MEMINFO: &str = "MemTotal:  4194304 kB\nMemFree: 10 kB\nMemAvailable: 1048576 kB\nSwapFree: 1024 kB\n";

    /// What can be allocated on a system with these files and no others.
    fn with(files: &[(&str, &str)]) -> u64 {
        available_by(|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn a_system_without_groups_has_what_is_available_and_swap() {
        assert_eq!(with(&[("/proc/meminfo", MEMINFO)]), 1025 * MIB);
        assert_eq!(with(&[]), u64::MAX);
        assert_eq!(with(&[("/proc/meminfo", "MemAvailable:\nMemAvailable: x kB\n")]), u64::MAX);
        assert_eq!(with(&[("/proc/meminfo", "MemAvailable: 18446744073709551615 kB\n")]), u64::MAX);
    }

    #[test]
    fn the_narrowest_group_of_version_2_counts() {
        let mounts = "24 1 0:21 / /sys rw - sysfs sysfs rw\n\
            30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 master:3 - cgroup2 cgroup2 rw,nsdelegate\n";
        let mut files = vec![
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/a.slice/b.service\n"),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/a.slice/b.service/memory.current", "1048576\n"),
            ("/sys/fs/cgroup/a.slice/memory.max", "104857600\n"),
            ("/sys/fs/cgroup/a.slice/memory.current", "62914560\n"),
            ("/sys/fs/cgroup/a.slice/memory.stat", "anon 5\ninactive_file 1048576\nactive_file 2097152\n"),
        ];
        // Without the files of swap, all of the system's counts.
        assert_eq!(with(&files), 44 * MIB);
        files.push(("/sys/fs/cgroup/a.slice/memory.swap.max", "524288\n"));
        files.push(("/sys/fs/cgroup/a.slice/memory.swap.current", "0\n"));
        assert_eq!(with(&files), 43 * MIB + MIB / 2);
        // Above its limit it leaves what can be freed.
        files.retain(|(name, _)| !name.ends_with("a.slice/memory.current"));
        files.push(("/sys/fs/cgroup/a.slice/memory.current", "204857600"));
        assert_eq!(with(&files), 3 * MIB + MIB / 2);
    }

    #[test]
    fn a_group_of_version_1_limits_memory_and_swap() {
        let mounts = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            33 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let mut files = vec![
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "5:cpu:/other\n4:memory:/docker/abc/own\n0::/\n"),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n"),
            ("/sys/fs/cgroup/memory/own/memory.limit_in_bytes", "104857600\n"),
            ("/sys/fs/cgroup/memory/own/memory.usage_in_bytes", "52428800\n"),
            ("/sys/fs/cgroup/memory/own/memory.stat", "inactive_file 7\ntotal_inactive_file 1048576\n"),
        ];
        assert_eq!(with(&files), 52 * MIB);
        files.push(("/sys/fs/cgroup/memory/own/memory.memsw.limit_in_bytes", "104857600\n"));
        files.push(("/sys/fs/cgroup/memory/own/memory.memsw.usage_in_bytes", "52428800\n"));
        assert_eq!(with(&files), 51 * MIB);
    }

    #[test]
    fn a_group_outside_its_mount_shows_the_limits_of_the_mount() {
        let limits = [("/mnt/memory.max", "4096\n"), ("/mnt/memory.current", "0\n")];
        for (path, root) in [("0::/../b\n", "/"), ("0::/b\n", "/a")] {
            let mounts = format!("30 24 0:26 {root} /mnt rw - cgroup2 none rw\n");
            let files = [("/proc/self/cgroup", path), ("/proc/self/mountinfo", &mounts), limits[0], limits[1]];
            assert_eq!(with(&files), 4096);
        }
    }
}
