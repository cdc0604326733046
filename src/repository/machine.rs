//! How much memory there is for this process: the cgroup's limit, or else the machine's.

use std::fs;
use std::path::Path;

/// The share of it that models may take, in percent. The rest is for bodies (`--buffered-max`), for answers, and for what
/// engines take while they run beyond what their warm-up has shown.
const SHARE_PERCENT: u64 = 75;

/// Bytes that loaded models may take where nobody says; `None` where the system does not tell.
pub(super) fn memory_for_models() -> Option<u64> {
    let limit = limit_of_cgroup(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?);
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let least = limit.into_iter().chain(machine).min()?;
    Some(least / 100 * SHARE_PERCENT)
}

/// The lowest limit of the cgroup that `membership` (cgroups(7), `/proc/[pid]/cgroup`) names and of those around it.
fn limit_of_cgroup(mount: &Path, membership: &str) -> Option<u64> {
    let mut limits = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (mount, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the path may be the host's, which is not there: its own is then the mount.
        for ancestor in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(mount.join(ancestor).join(file)).unwrap_or_default();
            // "max" is no limit.
            limits.extend(text.trim().parse::<u64>());
        }
    }
    limits.into_iter().min()
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_on_the_way_up_holds_in_both_hierarchies() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(limit_of_cgroup(mount.path(), "0::/pod/container\n"), None);
        write("pod/container/memory.max", "max\n");
        write("pod/memory.max", "2000\n");
        assert_eq!(limit_of_cgroup(mount.path(), "0::/pod/container\n"), Some(2000));
        write("pod/container/memory.max", "1000\n");
        assert_eq!(limit_of_cgroup(mount.path(), "0::/pod/container\n"), Some(1000));
        write("memory/memory.limit_in_bytes", "700\n");
        assert_eq!(limit_of_cgroup(mount.path(), "4:cpu,memory:/docker/abc\n1:name=systemd:/x\n"), Some(700));
    }

    #[test]
    fn the_machines_memory_is_in_kib() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16384 << 10));
        assert_eq!(total("nothing"), None);
        assert!(memory_for_models().is_some_and(|bytes| bytes > 1 << 20));
    }
}
