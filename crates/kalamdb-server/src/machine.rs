//! What the machine gives this process: memory, cores and descriptors, limits of its control group included.

use std::fs;

/// Where the machine does not tell how much memory there is.
const ASSUMED_MEMORY_BYTES: usize = 4 << 30;

/// Memory that this process may use, bytes.
pub(crate) fn memory_bytes() -> usize {
    let total = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total_of_meminfo(&text));
    // No such file, or the word `max` in it, means no limit.
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .into_iter()
    .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    total.into_iter().chain(limits).min().unwrap_or(ASSUMED_MEMORY_BYTES)
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Files and connections that this process may have open; `None` where the machine does not tell.
pub(crate) fn descriptors() -> Option<usize> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Memory that this process holds, bytes; `None` where the machine does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn total_of_meminfo(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<usize>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_cores_and_descriptors() {
        assert!(memory_bytes() > 64 << 20);
        assert!(cores() >= 1);
        assert!(descriptors().is_none_or(|files| files >= 64));
        assert_eq!(
            total_of_meminfo("MemTotal:       24576 kB\nMemFree: 1 kB\n"),
            Some(24576 * 1024)
        );
        assert_eq!(total_of_meminfo("nothing"), None);
    }
}
