//! Writes `.tar` data whose bytes depend on nothing but the names and contents put in.
//!
//! Plain ustar entries, owner 0, time 0, two modes. The system's tar differs between platforms in just these points.

use anyhow::{Context, Result, bail};

const BLOCK_BYTES: usize = 512;
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    /// Adds a regular file.
    pub(crate) fn add(&mut self, name: &str, content: &[u8], executable: bool) -> Result<()> {
        self.0.extend_from_slice(&header(name, content.len(), if executable { 0o755 } else { 0o644 })?);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK_BYTES), 0);
        Ok(())
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK_BYTES, 0);
        self.0
    }
}

fn header(name: &str, bytes: usize, mode: u32) -> Result<[u8; BLOCK_BYTES]> {
    let (prefix, name) = split_name(name)?;
    let mut header = [0; BLOCK_BYTES];
    put(&mut header, 0, name)?;
    put(&mut header, 100, &format!("{mode:07o}"))?;
    put(&mut header, 108, &format!("{:07o}", 0))?;
    put(&mut header, 116, &format!("{:07o}", 0))?;
    put(&mut header, 124, &format!("{bytes:011o}"))?;
    put(&mut header, 136, &format!("{:011o}", 0))?;
    // The checksum counts its own field as blanks.
    put(&mut header, 148, "        ")?;
    put(&mut header, 156, "0")?;
    put(&mut header, 257, "ustar\x0000")?;
    put(&mut header, 345, prefix)?;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, &format!("{sum:06o}\0 "))?;
    Ok(header)
}

fn put(header: &mut [u8; BLOCK_BYTES], offset: usize, text: &str) -> Result<()> {
    let field = header.get_mut(offset..offset + text.len()).context("a field outside the tar header")?;
    field.copy_from_slice(text.as_bytes());
    Ok(())
}

/// Splits at a `/` so that both halves fit their fields.
fn split_name(name: &str) -> Result<(&str, &str)> {
    if name.len() <= NAME_BYTES {
        return Ok(("", name));
    }
    let fits = |(prefix, rest): &(&str, &str)| prefix.len() <= PREFIX_BYTES && rest.len() <= NAME_BYTES;
    let mut halves = name
        .match_indices('/')
        .map(|(position, _)| name.split_at(position))
        .map(|(prefix, rest)| (prefix, rest.trim_start_matches('/')));
    match halves.find(fits) {
        Some(halves) => Ok(halves),
        None => bail!("the path `{name}` is too long for a tar archive"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_systems_tar_reads_it() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(60));
        let mut archive = Archive::default();
        archive.add("a/one", b"first", false).unwrap();
        archive.add(&long, &[7; 700], true).unwrap();
        let bytes = archive.finish();
        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
        let mut tar =
            Command::new("tar").arg("-tvf").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listing = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), 2, "{listing}");
        assert!(lines[0].starts_with("-rw-r--r--") && lines[0].ends_with(" a/one"), "{listing}");
        assert!(
            lines[1].starts_with("-rwxr-xr-x") && lines[1].contains(" 700 ") && lines[1].ends_with(&long),
            "{listing}"
        );
    }

    #[test]
    fn refuses_a_name_that_fits_nowhere() {
        assert!(Archive::default().add(&"x".repeat(101), b"", false).is_err());
    }
}
