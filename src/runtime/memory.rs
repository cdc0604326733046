//! Memory of this process: how much is resident, and giving back what native engines freed.

/// Gives memory that was freed, but that the C library kept for reuse, back to the system.
///
/// Native engines allocate with malloc, and glibc holds on to freed weights in its arenas: without this call, unloading a
/// model does not make the process smaller. It takes milliseconds; call it after an unload, never per request. Elsewhere
/// than on Linux with glibc it does nothing.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's own locks, touches free memory only, and has no precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that native engines have allocated and not freed: what glibc's malloc has handed out, which is nobody else's where
/// Rust has an allocator of its own. 0 elsewhere than on Linux with glibc.
pub fn heap_bytes() -> u64 {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallinfo2 takes the allocator's own locks, only counts, and has no precondition.
        let counted = unsafe { libc::mallinfo2() };
        (counted.uordblks + counted.hblkhd) as u64
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    0
}

/// Bytes of this process that are resident in memory; `None` where the system has no `/proc/self/statm`.
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    resident_pages(&statm)?.checked_mul(page_bytes()?)
}

/// The second field, per proc_pid_statm(5).
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn page_bytes() -> Option<u64> {
    // SAFETY: sysconf only reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_field_of_statm_is_resident() {
        assert_eq!(resident_pages("3120 881 767 5 0 293 0\n"), Some(881));
        assert_eq!(resident_pages(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn touched_memory_is_resident_and_dropped_memory_is_given_back() {
        const BYTES: u64 = 64 << 20;
        let before = resident_bytes().unwrap();
        let touched = vec![1_u8; BYTES as usize];
        let held = resident_bytes().unwrap();
        assert!(held >= before + BYTES / 2, "{before} {held}");
        drop(touched);
        release_free_memory();
        assert!(resident_bytes().unwrap() <= held - BYTES / 2);
    }
}
