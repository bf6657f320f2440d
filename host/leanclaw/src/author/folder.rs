//! The plugin folder as commands change it: whole plugins in and out, by rename.
//!
//! A program may be watching: what is being prepared has a name that starts with a dot, which it leaves alone, and a
//! replacement takes the old one's place in one step wherever the file system can do that.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use leanclaw_plugin::{PackageContents, plugins_in};
use leanclaw_types::PluginId;
use leanclaw_types::manifest::Manifest;
use leanclaw_wasm::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::bundle::Bundle;
use crate::report::Advice;

/// Where the plugins with an id lie, by what their manifests say. A folder that is not there holds none.
pub(crate) fn find(folder: &Path, id: &PluginId) -> Vec<(PathBuf, Manifest)> {
    let candidates = plugins_in(folder).unwrap_or_default();
    let read = candidates.into_iter().filter_map(|path| {
        let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
        let (manifest, _) = PackageContents::read_manifest(&path).ok().filter(|_| !is_link)?;
        Some((path, manifest))
    });
    read.filter(|(_, manifest)| &manifest.id == id).collect()
}

/// What became of a plugin that was put into the folder.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) path: PathBuf,
    /// Of the component as it lies there.
    pub(crate) digest: Digest,
    /// Whether one of this id was there before.
    pub(crate) replaced: bool,
}

/// Puts a plugin into the folder, in the place of the one with its id.
pub(crate) fn place(folder: &Path, bundle: &Bundle) -> Result<Placed> {
    make(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let id = bundle.id();
    let component = bundle.component()?;
    let before: Vec<PathBuf> = find(folder, id).into_iter().map(|(path, _)| path).collect();
    let target = match before.first() {
        Some(old) if old.is_dir() || bundle.fits_one_file() => old.clone(),
        _ => folder.join(id.as_str()),
    };
    if !before.contains(&target) && target.symlink_metadata().is_ok() {
        let message = format!("{} is there already and is not the plugin `{id}`", target.display());
        return Err(Advice::new(message).hint("look at what it is, and move it away").into());
    }
    let staged = hidden(folder, id);
    discard(&staged);
    let digest = if target.is_file() {
        let bytes = bundle.one_file()?;
        std::fs::write(&staged, &bytes).with_context(|| format!("{} cannot be written", staged.display()))?;
        Digest::of(&bytes)
    } else {
        bundle.write_folder(&staged, component)?
    };
    close_to_others(&staged).with_context(|| format!("{} cannot be closed to other users", staged.display()))?;
    exchange(&staged, &target).with_context(|| format!("the plugin cannot be moved to {}", target.display()))?;
    discard(&staged);
    // More of this id than one are refused by whoever loads them: only the new one is left.
    for other in before.iter().filter(|other| **other != target) {
        take_away(folder, other, id)?;
    }
    Ok(Placed { path: target, digest, replaced: !before.is_empty() })
}

/// Takes every plugin with this id out of the folder; where they lay.
pub(crate) fn remove(folder: &Path, id: &PluginId) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = find(folder, id).into_iter().map(|(path, _)| path).collect();
    if found.is_empty() {
        // One whose manifest cannot be read is still told by its name.
        let named = [folder.join(id.as_str()), folder.join(format!("{id}.wasm"))];
        let candidates = plugins_in(folder).unwrap_or_default();
        let unreadable = |path: &PathBuf| candidates.contains(path) && PackageContents::read_manifest(path).is_err();
        found.extend(named.into_iter().filter(unreadable));
    }
    for path in &found {
        take_away(folder, path, id)?;
    }
    Ok(found)
}

/// Makes the plugin folder, if it is not there. Nothing is loaded from one that others may write to, whatever the umask.
pub(crate) fn make(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

/// Takes the right to write from everybody but the owner: nothing else is loaded.
fn close_to_others(path: &Path) -> std::io::Result<()> {
    let mode = path.symlink_metadata()?.permissions().mode();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & !0o022))?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if !entry.file_type()?.is_symlink() {
                close_to_others(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// A name in the folder that whoever watches leaves alone.
fn hidden(folder: &Path, id: &PluginId) -> PathBuf {
    folder.join(format!(".{id}.{}", std::process::id()))
}

fn take_away(folder: &Path, path: &Path, id: &PluginId) -> Result<()> {
    let gone = hidden(folder, id);
    discard(&gone);
    std::fs::rename(path, &gone).with_context(|| format!("{} cannot be removed", path.display()))?;
    discard(&gone);
    Ok(())
}

/// Deletes what nobody looks at any more. What cannot be deleted stays under its hidden name and harms nobody.
fn discard(path: &Path) {
    let _left_behind = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
}

/// Gives `staged` the name `target`; what had that name has the name `staged` afterwards.
fn exchange(staged: &Path, target: &Path) -> std::io::Result<()> {
    if target.symlink_metadata().is_err() {
        return std::fs::rename(staged, target);
    }
    if renameat_with(CWD, staged, CWD, target, RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    // A file system that cannot exchange two names: for an instant there is none.
    let aside = staged.with_extension("old");
    std::fs::rename(target, &aside)?;
    if let Err(error) = std::fs::rename(staged, target) {
        std::fs::rename(&aside, target)?;
        return Err(error);
    }
    std::fs::rename(&aside, staged)
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::{METHOD, component, plugin};
    use super::*;
    use serde_json::json;

    fn bundle(folder: &Path, version: &str, skills: bool) -> Bundle {
        let source = folder.join(format!("source-{version}"));
        let mut manifest = json!({"id": "x", "version": version, "main": "p.wasm"});
        if skills {
            manifest["skills"] = json!(["skills"]);
            super::super::assets::write(&source.join("skills/SKILL.md"), b"s").unwrap();
        }
        plugin(&source, &manifest, &component(&[], &[METHOD]));
        Bundle::open(&source).unwrap()
    }

    fn versions(folder: &Path) -> Vec<(String, String)> {
        let id = "x".parse().unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        find(folder, &id).into_iter().map(|(path, manifest)| (name(path), manifest.version)).collect()
    }

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_new_version_takes_the_place_of_the_old_one_whatever_its_name() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("plugins");
        let placed = place(&folder, &bundle(temporary.path(), "1", false)).unwrap();
        assert!(!placed.replaced && placed.path == folder.join("x"));
        std::fs::rename(&placed.path, folder.join("by-hand")).unwrap();
        let placed = place(&folder, &bundle(temporary.path(), "2", false)).unwrap();
        assert!(placed.replaced);
        assert_eq!(versions(&folder), [("by-hand".into(), "2".into())]);
        assert_eq!(entries(&folder), 1, "nothing is left behind");
    }

    #[test]
    fn a_single_file_stays_one_as_long_as_it_can() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("plugins");
        std::fs::create_dir(&folder).unwrap();
        let first = bundle(temporary.path(), "1", false);
        std::fs::write(folder.join("mine.wasm"), first.one_file().unwrap()).unwrap();
        let placed = place(&folder, &bundle(temporary.path(), "2", false)).unwrap();
        assert_eq!(placed.digest, Digest::of(&std::fs::read(folder.join("mine.wasm")).unwrap()));
        assert_eq!(versions(&folder), [("mine.wasm".into(), "2".into())]);
        place(&folder, &bundle(temporary.path(), "3", true)).unwrap();
        assert_eq!(versions(&folder), [("x".into(), "3".into())]);
        assert_eq!(entries(&folder), 1);
    }

    #[test]
    fn what_is_another_plugins_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("plugins");
        plugin(&folder.join("x"), &json!({"id": "other", "main": "p.wasm"}), &component(&[], &[METHOD]));
        let error = place(&folder, &bundle(temporary.path(), "1", false)).unwrap_err();
        assert!(error.to_string().contains("is not the plugin `x`"), "{error}");
        assert_eq!(entries(&folder), 1);
        let outside = temporary.path().join("outside");
        std::fs::rename(folder.join("x"), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("x")).unwrap();
        assert!(place(&folder, &bundle(temporary.path(), "1", false)).is_err(), "nor is a link followed");
    }

    #[test]
    fn removing_takes_all_of_an_id_and_what_bears_its_name_but_cannot_be_read() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("plugins");
        let id = "x".parse().unwrap();
        place(&folder, &bundle(temporary.path(), "1", false)).unwrap();
        std::fs::write(folder.join("b.wasm"), bundle(temporary.path(), "2", false).one_file().unwrap()).unwrap();
        assert_eq!(remove(&folder, &id).unwrap(), [folder.join("b.wasm"), folder.join("x")]);
        assert_eq!(entries(&folder), 0);
        plugin(&folder.join("x"), &json!({"id": "../../x"}), b"");
        plugin(&folder.join("y"), &json!({"id": "y"}), b"");
        assert_eq!(remove(&folder, &id).unwrap(), [folder.join("x")]);
        assert!(remove(&folder, &id).unwrap().is_empty());
        assert_eq!(entries(&folder), 1);
    }

    #[test]
    fn what_had_the_name_before_ends_up_where_the_new_one_was() {
        let temporary = tempfile::tempdir().unwrap();
        let (staged, target) = (temporary.path().join(".x.1"), temporary.path().join("x"));
        std::fs::write(&staged, "new").unwrap();
        exchange(&staged, &target).unwrap();
        std::fs::write(&staged, "newer").unwrap();
        exchange(&staged, &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "newer");
        assert_eq!(std::fs::read_to_string(&staged).unwrap(), "new");
    }
}
