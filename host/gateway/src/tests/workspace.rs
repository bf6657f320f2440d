//! Looking through the workspace of an agent: what one client wrote, another sees, and nothing outside is reached.

use std::mem::MaybeUninit;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use serde_json::{Value, json};

use super::agents::{fresh, over};
use super::assert_invalid;
use crate::workspace::{Place, Workspace};

fn get(path: &str) -> Value {
    json!({"agentId": "main", "path": path})
}

/// Fails with that, and asking again does not help.
fn assert_refused(response: &Value, why: &str) {
    let error = &response["error"];
    assert!(error["message"].as_str().unwrap().contains(why), "{why}: {response}");
    assert_eq!((&error["code"], error.get("retryable")), (&json!("INVALID_REQUEST"), None), "{response}");
}

/// A workspace with a file that a client may write, a folder with another, and what leads outside.
fn furnish(folder: &Path) -> PathBuf {
    let workspace = folder.join("agents/main/workspace");
    std::fs::create_dir_all(workspace.join("notes/deep")).unwrap();
    std::fs::write(workspace.join("notes/data.bin"), [0xff, 0, 1]).unwrap();
    std::fs::write(folder.join("secret"), "hunter2").unwrap();
    symlink(folder.join("secret"), workspace.join("link")).unwrap();
    symlink(folder, workspace.join("notes/out")).unwrap();
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, workspace.join("pipe"), fifo, mode, 0).unwrap();
    workspace
}

#[tokio::test]
async fn a_workspace_is_looked_through_also_after_a_restart() {
    let (folder, records, server) = fresh().await;
    let (mut admin, mut reader) = (server.admin().await, server.connect(4, &["operator.read"]).await);
    let none = json!({"agentId": "main", "path": "", "entries": [], "totalEntries": 0, "offset": 0});
    assert_eq!(reader.call("agents.workspace.list", json!({"agentId": "main"})).await["payload"], none);
    let set = json!({"agentId": "main", "name": "USER.md", "content": "# ü\n"});
    let set_at_ms = admin.call("agents.files.set", set).await["payload"]["file"]["updatedAtMs"].clone();
    furnish(folder.path());
    let listed = reader.call("agents.workspace.list", json!({"agentId": "main"})).await["payload"].clone();
    let (notes, user) = (
        json!({"path": "notes", "name": "notes", "kind": "directory"}),
        json!({"path": "USER.md", "name": "USER.md", "kind": "file", "size": 5, "updatedAtMs": set_at_ms}),
    );
    let all = json!({"agentId": "main", "path": "", "entries": [notes, user], "totalEntries": 2, "offset": 0});
    assert_eq!(listed, all, "what is no folder and no plain file is left out");
    let second = json!({"agentId": "main", "path": "", "offset": 1, "limit": 1});
    let second = reader.call("agents.workspace.list", second).await["payload"].clone();
    assert_eq!((&second["entries"], &second["totalEntries"]), (&json!([user]), &json!(2)), "{second}");
    let below = reader.call("agents.workspace.list", json!({"agentId": "main", "path": "notes"})).await;
    let below = &below["payload"];
    assert_eq!((&below["parentPath"], &below["entries"][0]["path"]), (&json!(""), &json!("notes/deep")), "{below}");
    assert_eq!((&below["entries"][1]["path"], &below["totalEntries"]), (&json!("notes/data.bin"), &json!(2)));

    let file = reader.call("agents.workspace.get", get("USER.md")).await["payload"].clone();
    let expected = json!({
        "path": "USER.md", "name": "USER.md", "size": 5, "updatedAtMs": set_at_ms, "mimeType": "text/markdown",
        "encoding": "utf8", "content": "# ü\n",
    });
    assert_eq!(file, json!({"agentId": "main", "file": expected}));
    let binary = reader.call("agents.workspace.get", get("notes/data.bin")).await["payload"]["file"].clone();
    let (kind, content) = (&binary["mimeType"], &binary["content"]);
    assert_eq!(
        (kind, content, &binary["encoding"]),
        (&json!("application/octet-stream"), &json!("/wAB"), &json!("base64"))
    );

    drop((admin, reader));
    server.stop().await;
    let server = over(&records, folder.path()).await;
    let mut again = server.connect(3, &["operator.read"]).await;
    assert_eq!(
        again.call("agents.workspace.get", get("USER.md")).await["payload"]["file"],
        expected,
        "after a restart"
    );
    let file = again.call("agents.files.get", json!({"agentId": "main", "name": "USER.md"})).await["payload"].clone();
    assert_eq!((&file["file"]["content"], &file["file"]["missing"]), (&json!("# ü\n"), &json!(false)), "{file}");
    let files = again.call("agents.files.list", json!({"agentId": "main"})).await["payload"]["files"].clone();
    let there = files.as_array().unwrap().iter().filter(|file| file["missing"] == false).collect::<Vec<_>>();
    assert_eq!((there.len(), &there[0]["name"]), (1, &json!("USER.md")), "{files}");
    drop(again);
    server.stop().await;
}

#[tokio::test]
async fn nothing_outside_is_reached_and_what_cannot_be_read_says_why() {
    let (folder, _records, server) = fresh().await;
    let workspace = furnish(folder.path());
    std::fs::write(workspace.join("USER.md"), "me").unwrap();
    let mut reader = server.connect(4, &["operator.read"]).await;
    std::fs::write(workspace.join("notes/large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
    for (path, why) in [
        ("../../../secret", "unsupported path"),
        ("/etc/passwd", "unsupported path"),
        ("notes/../USER.md", "unsupported path"),
        ("link", "link is no plain file; only plain files are read, and no link is followed"),
        ("pipe", "pipe is no plain file"),
        ("notes", "notes is no plain file"),
        ("notes/out", "notes/out is no plain file"),
        ("notes/out/secret", "notes/out is no folder; no link is followed in a workspace"),
        ("USER.md/x", "USER.md is no folder"),
        ("nothing", "the workspace has no file \"nothing\""),
        ("notes/large", "notes/large has more than 1048576 bytes"),
    ] {
        assert_refused(&reader.call("agents.workspace.get", get(path)).await, why);
    }
    for (path, why) in [("..", "unsupported path"), ("notes/out", "is no folder"), ("nothing", "has no folder")] {
        assert_refused(&reader.call("agents.workspace.list", get(path)).await, why);
    }
    let nobody = reader.call("agents.workspace.list", json!({"agentId": "nobody"})).await;
    assert_invalid(&nobody, "agent \"nobody\" not found");
    drop(reader);
    server.stop().await;
}

/// No file is opened to be listed, so that one nobody may read is told of as any other.
#[cfg(target_os = "linux")]
#[test]
fn who_pages_through_a_folder_sees_all_that_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("main/workspace");
    std::fs::create_dir_all(&files).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(files.join(name), name).unwrap();
        std::fs::set_permissions(files.join(name), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &files, inotify::WatchFlags::OPEN).unwrap();
    symlink("/etc/passwd", files.join("link")).unwrap();
    let workspace = Workspace::of(folder.path(), "main");
    let (page, total) = workspace.list(&Place::default(), 1, 1).unwrap().unwrap();
    assert_eq!((page[0].name.as_str(), page[0].file.as_ref().map(|file| file.bytes), total), ("b", Some(1), 3));
    let mut seen = Vec::new();
    loop {
        let (page, total) = workspace.list(&Place::default(), seen.len(), 2).unwrap().unwrap();
        seen.extend(page.into_iter().map(|entry| entry.name));
        if seen.len() >= total {
            break;
        }
    }
    assert_eq!(seen, ["a", "b", "c"]);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut opened = inotify::Reader::new(&watch, &mut buffer);
    while let Ok(event) = opened.next() {
        assert_eq!(event.file_name(), None, "only the folder itself is opened");
    }
}
