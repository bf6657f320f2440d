//! Who else may change what is loaded: a grant belongs to an id, so whoever can put files under that id has its rights.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Write permission of the group and of everybody.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why what lies at `path` must not be loaded from: another user owns it or may write to it. None also when it cannot be
/// looked at, which whoever reads it reports.
pub(crate) fn problem(path: &Path) -> Option<String> {
    let found = path.symlink_metadata().ok()?;
    // The permissions of a link say nothing; those of what it leads to do.
    let found = if found.is_symlink() { path.metadata().ok()? } else { found };
    let (shown, owner) = (path.display(), found.uid());
    let own = rustix::process::geteuid().as_raw();
    if owner != 0 && owner != own {
        return Some(format!(
            "{shown} belongs to another user (uid {owner}), who could put any code under a plugin's rights\nhint: chown -R {own} {shown}"
        ));
    }
    (found.mode() & WRITABLE_BY_OTHERS != 0).then(|| {
        format!(
            "other users may write to {shown} (mode {:o}), and could put any code under a plugin's rights\nhint: chmod -R go-w {shown}",
            found.mode() & 0o7777
        )
    })
}

/// As [`problem`], of `file` and of every folder between it and `folder`, which is not looked at.
pub(crate) fn problem_below(folder: &Path, file: &Path) -> Option<String> {
    file.ancestors().take_while(|path| *path != folder && path.starts_with(folder)).find_map(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_others_may_write_to_is_named_with_the_command_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("dist"), folder.path().join("dist/plugin.wasm"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(&inner, 0o755);
        for (bits, good) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            mode(&file, bits);
            assert_eq!(problem_below(folder.path(), &file).is_none(), good, "{bits:o}");
        }
        mode(&file, 0o644);
        mode(&inner, 0o777);
        let problem = problem_below(folder.path(), &file).unwrap();
        assert!(problem.contains("chmod -R go-w") && problem.contains("dist (mode 777)"), "{problem}");
    }
}
