use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// A workspace with a file in it, and a secret beside it.
fn workspace() -> (tempfile::TempDir, Workspace) {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("w")).unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    fs::write(outside.path().join("w/a"), "inside").unwrap();
    let workspace = Workspace::open(&outside.path().join("w")).unwrap();
    (outside, workspace)
}

fn text(workspace: &Workspace, path: &str) -> Result<String, PathError> {
    let mut text = String::new();
    workspace.file(path)?.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn paths_inside_work_however_they_are_written() {
    let (_outside, workspace) = workspace();
    let absolute = format!("{}/a", workspace.shown());
    for path in ["a", "./a", "x/../a", absolute.as_str(), ".//a", "a/."] {
        if path.starts_with('x') {
            fs::create_dir(workspace.path().join("x")).unwrap();
        }
        assert_eq!(text(&workspace, path).unwrap(), "inside", "{path}");
    }
}

#[test]
fn paths_that_leave_are_refused() {
    let (outside, workspace) = workspace();
    let beside = format!("{}/w-not", outside.path().display());
    fs::write(&beside, "x").unwrap();
    for path in ["../secret", "..", "/etc/passwd", "/", "x/../../secret", &beside] {
        fs::create_dir_all(workspace.path().join("x")).unwrap();
        assert!(matches!(workspace.file(path), Err(PathError::Outside { .. })), "{path}");
        assert!(workspace.write(path, b"x").is_err(), "{path}");
    }
    assert!(matches!(workspace.file("a\0b"), Err(PathError::Nul)));
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
}

#[test]
fn links_inside_work_and_links_that_leave_are_refused() {
    let (outside, workspace) = workspace();
    let at = |name: &str| workspace.path().join(name);
    fs::create_dir(at("d")).unwrap();
    symlink("../a", at("d/up")).unwrap();
    symlink(at("a"), at("absolute")).unwrap();
    symlink("d", at("folder")).unwrap();
    assert_eq!(text(&workspace, "d/up").unwrap(), "inside");
    assert_eq!(text(&workspace, "absolute").unwrap(), "inside");
    assert_eq!(text(&workspace, "folder/up").unwrap(), "inside");

    symlink("../secret", at("out")).unwrap();
    symlink(outside.path(), at("parent")).unwrap();
    symlink("../../secret", at("d/out")).unwrap();
    for path in ["out", "parent/secret", "d/out", "folder/out", "parent"] {
        assert!(matches!(workspace.file(path), Err(PathError::Outside { .. })), "{path}");
        assert!(matches!(workspace.write(path, b"x"), Err(PathError::Outside { .. })), "{path}");
        assert!(matches!(workspace.folder(path), Err(PathError::Outside { .. })), "{path}");
    }
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");

    symlink("round", at("round")).unwrap();
    assert!(matches!(workspace.file("round"), Err(PathError::TooDeep { .. })));
}

#[test]
fn what_is_no_file_is_not_opened() {
    let (_outside, workspace) = workspace();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        workspace.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(matches!(workspace.file("pipe"), Err(PathError::Special { .. })));
    assert!(matches!(workspace.write("pipe", b"x"), Err(PathError::Special { .. })));
    assert!(matches!(workspace.file("."), Err(PathError::IsFolder { .. })));
    assert!(matches!(workspace.file("none"), Err(PathError::Missing { .. })));
    assert!(matches!(workspace.file("a/b"), Err(PathError::NotFolder { .. })));
    assert!(matches!(workspace.folder("a"), Err(PathError::NotFolder { .. })));
}

#[test]
fn writing_makes_folders_keeps_modes_and_leaves_nothing_behind() {
    let (_outside, workspace) = workspace();
    workspace.write("x/y/z", b"new").unwrap();
    assert_eq!(text(&workspace, "x/y/z").unwrap(), "new");
    fs::set_permissions(workspace.path().join("x/y/z"), fs::Permissions::from_mode(0o750)).unwrap();
    workspace.write("x/y/z", b"newer").unwrap();
    assert_eq!(text(&workspace, "x/y/z").unwrap(), "newer");
    assert_eq!(fs::metadata(workspace.path().join("x/y/z")).unwrap().permissions().mode() & 0o777, 0o750);
    let (folder, relative) = workspace.folder("x/y").unwrap();
    assert_eq!(relative, "x/y");
    assert_eq!(folder.entries().unwrap(), [Entry { name: "z".to_owned(), kind: Kind::File }]);
    assert!(workspace.write("x/y", b"").is_err());
    assert!(workspace.write("new/", b"").is_err());
}

#[test]
fn a_link_inside_is_written_through_and_stays() {
    let (_outside, workspace) = workspace();
    symlink("a", workspace.path().join("link")).unwrap();
    workspace.write("link", b"through").unwrap();
    assert_eq!(text(&workspace, "a").unwrap(), "through");
    assert!(workspace.path().join("link").is_symlink());
}
