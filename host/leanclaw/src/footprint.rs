//! How much of the program's own code stays mapped.
//!
//! Starting runs through code of every part of the program, most of it once: settings, schemas, the engine, the stores. The
//! kernel maps the pages around each of those places too, and they would count as this process's memory for good.

use std::fs;
use std::ops::Range;

/// Unmaps the program's code and gives the size of the mapping, in bytes; zero where that cannot be done. What runs again is
/// mapped again, from the system's cache of the file.
#[cfg(target_os = "linux")]
pub(crate) fn forget_start_code() -> usize {
    let here = forget_start_code as *const () as usize;
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return 0 };
    let Some(code) = maps.lines().filter_map(code_mapping).find(|code| code.contains(&here)) else { return 0 };
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the range is one private mapping of a file that nothing writes to: it is executable and not writable, and code
    // has no relocations. Its pages come back as they were, whichever thread runs into them next.
    let outcome =
        unsafe { libc::madvise(std::ptr::without_provenance_mut(code.start), code.len(), libc::MADV_DONTNEED) };
    if outcome == 0 { code.len() } else { 0 }
}

/// The same where it cannot be done.
#[cfg(not(target_os = "linux"))]
pub(crate) fn forget_start_code() -> usize {
    0
}

/// The addresses of a line of `/proc/self/maps` if it is private code of a file.
#[cfg(target_os = "linux")]
fn code_mapping(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (addresses, rights) = (words.next()?, words.next()?);
    // Offset, device and inode; memory without a file has inode 0.
    let inode = words.nth(2)?;
    let (start, end) = addresses.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (rights == "r-xp" && inode != "0" && start < end).then_some(start..end)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_private_code_of_a_file_is_code() {
        let code = "562a6b5f4000-562a6d4e0000 r-xp 008f3000 fe:00 10011802                   /usr/bin/leanclaw";
        assert_eq!(code_mapping(code), Some(0x562a_6b5f_4000..0x562a_6d4e_0000));
        for (from, to) in [("r-xp", "r--p"), ("r-xp", "rwxp"), ("r-xp", "r-xs"), ("10011802", "0"), ("-", " ")] {
            assert_eq!(code_mapping(&code.replacen(from, to, 1)), None, "{to}");
        }
        assert_eq!(code_mapping(""), None);
    }

    #[test]
    fn the_program_goes_on_with_less_in_memory() {
        let resident = || -> usize {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse().unwrap()
        };
        let before = resident();
        assert!(forget_start_code() > 1 << 20, "this program has more code than that");
        assert!(resident() < before);
        let text: serde_json::Value = serde_json::from_str("{\"still\": [\"there\"]}").unwrap();
        assert_eq!(text["still"][0], "there");
    }
}
