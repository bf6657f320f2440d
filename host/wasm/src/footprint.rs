//! How much of what the program only runs through once stays mapped.
//!
//! Starting, and loading a component, runs through code and tables of every part of the program, most of it once:
//! settings, schemas, the decoder of compiled code and what it decodes. The kernel maps the pages around each of those
//! places too, and they would count as this process's memory for good. Here they are unmapped; what is needed again comes
//! back from the system's cache of the file, at the price of a short fault.
//!
//! Only pages that nothing can have written to are unmapped: a page of a private mapping that was written to would come
//! back as it is in the file. That leaves out the program's relocated data and the compiled code of components, which the
//! engine may have patched.

#[cfg(target_os = "linux")]
use std::fs;
use std::ops::Range;

/// Unmaps the program's own code and constants, and gives the size of their mappings, in bytes; zero where that cannot
/// be done.
pub fn forget_code() -> usize {
    forget(0..0)
}

/// The same, and all of a component's `image` but its code: what loading reads and a call seldom does.
#[cfg(target_os = "linux")]
pub(crate) fn forget(image: Range<usize>) -> usize {
    let here = forget_code as *const () as usize;
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return 0 };
    let Some(own) = maps.lines().filter_map(mapping).find(|mapping| mapping.code && mapping.range.contains(&here))
    else {
        return 0;
    };
    let unwritten = |mapping: &Mapping<'_>| {
        if mapping.file == own.file {
            // The constants lie right before the code. What has relocations lies further on, and what somebody else maps of
            // the file, to read symbols for example, may be gone by now and its place taken.
            mapping.range == own.range || (mapping.is_constants() && mapping.range.end == own.range.start)
        } else {
            !mapping.code && image.contains(&mapping.range.start)
        }
    };
    maps.lines().filter_map(mapping).filter(unwritten).map(|mapping| unmap(&mapping.range)).sum()
}

/// The same where it cannot be done.
#[cfg(not(target_os = "linux"))]
pub(crate) fn forget(_image: Range<usize>) -> usize {
    0
}

/// Lets go of the pages of a mapping that [`forget`] chose.
#[cfg(target_os = "linux")]
fn unmap(range: &Range<usize>) -> usize {
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the range is one private mapping of a file, without the right to write, and nothing was written to it while
    // it had that right (see the module). Its pages come back as they were, whichever thread needs them next.
    let outcome =
        unsafe { libc::madvise(std::ptr::without_provenance_mut(range.start), range.len(), libc::MADV_DONTNEED) };
    if outcome == 0 { range.len() } else { 0 }
}

/// A private mapping of a file that cannot be written to.
#[cfg(target_os = "linux")]
struct Mapping<'a> {
    range: Range<usize>,
    /// Executable, not only readable.
    code: bool,
    /// It begins where the file does.
    at_start: bool,
    /// Device and inode.
    file: (&'a str, &'a str),
}

#[cfg(target_os = "linux")]
impl Mapping<'_> {
    /// It may hold the headers and constants of a program.
    fn is_constants(&self) -> bool {
        !self.code && self.at_start
    }
}

/// Such a mapping, if the line of `/proc/self/maps` is one.
#[cfg(target_os = "linux")]
fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (addresses, rights, offset) = (words.next()?, words.next()?, words.next()?);
    let file = (words.next()?, words.next()?);
    let (start, end) = addresses.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let code = rights == "r-xp";
    // Memory without a file has inode 0.
    let fits = (code || rights == "r--p") && file.1 != "0" && start < end;
    fits.then(|| Mapping { range: start..end, code, at_start: offset.bytes().all(|digit| digit == b'0'), file })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    const CODE: &str = "562a6b5f4000-562a6d4e0000 r-xp 008f3000 fe:00 10011802                   /usr/bin/leanclaw";

    #[test]
    fn only_a_private_mapping_of_a_file_without_the_right_to_write_counts() {
        let code = mapping(CODE).unwrap();
        assert_eq!(code.range, 0x562a_6b5f_4000..0x562a_6d4e_0000);
        assert!(code.code && !code.is_constants());
        assert_eq!(code.file, ("fe:00", "10011802"));
        let constants = CODE.replacen("r-xp 008f3000", "r--p 00000000", 1);
        assert!(mapping(&constants).is_some_and(|constants| constants.is_constants()));
        for (from, to) in [("r-xp", "rw-p"), ("r-xp", "rwxp"), ("r-xp", "r-xs"), ("10011802", "0"), ("-", " ")] {
            assert!(mapping(&CODE.replacen(from, to, 1)).is_none(), "{to}");
        }
        assert!(mapping("").is_none());
    }

    /// In a process of its own: what other tests run and load meanwhile comes into memory too.
    #[test]
    fn the_program_goes_on_with_less_in_memory() {
        const ALONE: &str = "LEANCLAW_TEST_FOOTPRINT_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let this = concat!(module_path!(), "::the_program_goes_on_with_less_in_memory").split_once("::").unwrap().1;
            let outcome = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", this, "--nocapture"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&outcome.stdout);
            assert!(outcome.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let resident = || -> usize {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse().unwrap()
        };
        let before = resident();
        assert!(forget_code() > 1 << 20, "this program has more code than that");
        assert!(resident() < before);
        assert_eq!(format!("{:?}", Some("still there")), "Some(\"still there\")");
    }
}
