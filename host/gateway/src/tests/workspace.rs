//! Looking through the workspace of an agent: what one client wrote, another sees, and nothing outside is reached.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::agents::over;
use super::assert_invalid;
use super::fake::MemoryRecords;

fn get(path: &str) -> Value {
    json!({"agentId": "main", "path": path})
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
    let (folder, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
    let server = over(&records, folder.path()).await;
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
    drop(again);
    server.stop().await;
}

#[tokio::test]
async fn nothing_outside_is_reached_and_what_cannot_be_read_says_why() {
    let (folder, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
    let server = over(&records, folder.path()).await;
    let workspace = furnish(folder.path());
    std::fs::write(workspace.join("USER.md"), "me").unwrap();
    let mut reader = server.connect(4, &["operator.read"]).await;
    for (path, why) in [
        ("../../../secret", "unsupported path"),
        ("/etc/passwd", "unsupported path"),
        ("notes/../USER.md", "unsupported path"),
        ("link", "no plain file"),
        ("pipe", "no plain file"),
        ("notes", "no plain file"),
        ("notes/out/secret", "out is no folder"),
        ("USER.md/x", "USER.md is no folder"),
        ("nothing", "the workspace has no file \"nothing\""),
    ] {
        let refused = reader.call("agents.workspace.get", get(path)).await["error"].clone();
        assert!(refused["message"].as_str().unwrap().contains(why), "{path}: {refused}");
    }
    for (path, why) in [("..", "unsupported path"), ("notes/out", "is no folder"), ("nothing", "has no folder")] {
        let refused = reader.call("agents.workspace.list", get(path)).await["error"].clone();
        assert!(refused["message"].as_str().unwrap().contains(why), "{path}: {refused}");
    }
    std::fs::write(workspace.join("large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
    let large = reader.call("agents.workspace.get", get("large")).await["error"].clone();
    assert!(large["message"].as_str().unwrap().contains("1048576 bytes"), "{large}");
    let nobody = reader.call("agents.workspace.list", json!({"agentId": "nobody"})).await;
    assert_invalid(&nobody, "agent \"nobody\" not found");
    drop(reader);
    server.stop().await;
}
