//! Disks that do not take what is written: what cannot be stored is said, what was stored can be read, and once the cause is
//! gone everything works again. A disk of a few MiB takes the right to mount; limits and modes do the same to anybody.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Client, Place, Program, env, eventually_or, not_run, request, text, through};

/// A small disk of its own, which only root can make.
struct Disk(PathBuf);

impl Disk {
    fn new(place: &Place) -> Option<Self> {
        let path = place.work().join("disk");
        fs::create_dir(&path).unwrap();
        let disk = Self(path);
        let made = disk.mount(&["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]);
        if !made {
            not_run("only root can mount a small disk (mount -t tmpfs)");
            std::mem::forget(disk);
            return None;
        }
        Some(disk)
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(&self.0).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Takes all space that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [64 * 1024, 4096, 512, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A write of some size.
async fn put(client: &mut Client, key: &str, characters: usize) -> Result<Value, Value> {
    client.call("sessions.patch", json!({"key": key, "label": format!("{key} {}", "l".repeat(characters))})).await
}

/// Why `/ready` says that the database is not.
async fn database_trouble(program: &Program) -> String {
    let ready = program.get("/ready").await;
    let body = ready.json();
    assert_eq!((ready.status, &body["failing"]), (503, &json!(["database"])), "{body}");
    text(&body["details"][0]["reason"]).to_owned()
}

/// Waits until `/ready` says so again, with nobody writing anything.
async fn ready_again(program: &Program) {
    eventually_or("it is ready again", async || {
        let ready = program.get("/ready").await;
        if ready.status == 200 { Ok(()) } else { Err(ready.text()) }
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_everything_works_once_there_is_space() {
    let place = Place::empty();
    let Some(disk) = Disk::new(&place) else { return };
    let program = place.start_in(&disk.data()).await;
    let mut client = program.client().await;
    put(&mut client, "before", 100).await.unwrap();
    let filler = disk.fill();
    // The log may have some space of its own left.
    let mut refused = None;
    for number in 0..3000 {
        if let Err(error) = put(&mut client, &format!("full-{number}"), 400).await {
            refused = Some((number, error));
            break;
        }
    }
    let (number, error) = refused.expect("a full disk takes no more");
    assert_eq!(error["code"], "UNAVAILABLE", "{error}");
    let said = text(&error["message"]);
    assert!(said.contains("is full") && said.contains("core.db"), "{error}");
    assert!(error.to_string().contains("space"), "it says what to do: {error}");
    let reason = database_trouble(&program).await;
    assert!(reason.contains("core.db") && reason.contains("is full") && reason.contains("space"), "{reason}");
    assert!(!reason.contains(disk.0.to_str().unwrap()), "it does not say where that lies: {reason}");
    // Reading goes on, and what was not stored is not shown.
    let listed = client.ok("sessions.list", json!({"limit": 5000})).await.to_string();
    assert!(listed.contains("agent:main:before") && !listed.contains(&format!("full-{number}\"")), "{number}");
    assert_eq!(request(program.address, "GET", "/health", &[], b"").await.status, 200);

    fs::remove_file(filler).unwrap();
    ready_again(&program).await;
    put(&mut client, "after", 100).await.unwrap();
    program.kill().await;
    let program = place.start_in(&disk.data()).await;
    let mut client = program.client().await;
    let listed = client.ok("sessions.list", json!({"limit": 5000})).await.to_string();
    for key in ["agent:main:before", "agent:main:after"] {
        assert!(listed.contains(key), "{key}");
    }
    program.stop().await;
}

#[tokio::test]
async fn a_read_only_disk_is_said_and_the_start_works_once_it_is_not() {
    let place = Place::empty();
    let Some(disk) = Disk::new(&place) else { return };
    place.start_in(&disk.data()).await.stop().await;
    assert!(disk.mount(&["-o", "remount,ro"]));
    let error = place.refused_start(env("LEANCLAW_DATA_DIR", disk.data().to_str().unwrap())).await;
    assert!(error.contains(&disk.data().display().to_string()) && error.contains("hint: "), "{error}");
    assert!(disk.mount(&["-o", "remount,rw"]));
    place.start_in(&disk.data()).await.stop().await;
}

/// Bounds how large a file the program may write from here on; nothing lifts the bound.
fn bound_files(program: &Program, bytes: Option<u64>) {
    let bound = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    // Without a number after the colon the hard limit stays, so that anybody may lift it again.
    let arguments = ["--pid".to_owned(), program.process_id().to_string(), format!("--fsize={bound}:")];
    let status = Command::new("prlimit").args(&arguments).status().expect("util-linux is installed");
    assert!(status.success(), "{arguments:?}");
}

/// A quota, and a disk that fails, look like this from inside: a write is refused for another reason than a full disk.
#[tokio::test]
async fn a_write_that_the_system_refuses_is_said_and_everything_works_once_it_does_not() {
    let place = Place::empty();
    let program = place.start().await;
    let mut client = program.client().await;
    put(&mut client, "before", 100).await.unwrap();
    let written = fs::metadata(place.data().join("core.db-wal")).unwrap().len();
    bound_files(&program, Some(written + 300_000));
    let mut refused = None;
    for number in 0..300 {
        if let Err(error) = put(&mut client, &format!("bound-{number}"), 400).await {
            refused = Some((number, error));
            break;
        }
    }
    let (number, error) = refused.expect("a file that may not grow takes no more");
    assert!(number > 0, "there was room for some");
    assert_eq!(error["code"], "UNAVAILABLE", "{error}");
    assert!(text(&error["message"]).contains("core.db") && error.to_string().contains("ulimit -f"), "{error}");
    let listed = client.ok("sessions.list", json!({"limit": 5000})).await.to_string();
    assert!(listed.contains("agent:main:before") && !listed.contains(&format!("bound-{number}\"")), "{number}");
    assert_eq!(request(program.address, "GET", "/health", &[], b"").await.status, 200);

    let reason = database_trouble(&program).await;
    assert!(reason.contains("core.db") && reason.contains("ulimit -f"), "{reason}");
    bound_files(&program, None);
    ready_again(&program).await;
    put(&mut client, "after", 100).await.unwrap();
    program.kill().await;
    place.run(&["db", "check"]).await.ok();
    let program = place.start().await;
    let listed = program.client().await.ok("sessions.list", json!({"limit": 5000})).await.to_string();
    let acknowledged = (0..number).map(|number| format!("bound-{number}\""));
    for key in acknowledged.chain(["before\"".to_owned(), "after\"".to_owned()]) {
        assert!(listed.contains(&format!("agent:main:{key}")), "{key}");
    }
    program.stop().await;
}

/// Everything is stored meanwhile, but in a log that grows for as long as there is room.
#[tokio::test]
async fn a_log_that_cannot_be_folded_in_is_said_and_is_folded_in_once_it_can_be() {
    let place = Place::empty();
    let program = place.start().await;
    let mut client = program.client().await;
    client.ok("sessions.create", json!({"key": "long"})).await;
    let said = |message: &str| json!({"sessionKey": "long", "message": message});
    let number = |injected: Value| text(&injected["messageId"]).parse::<i64>().unwrap();
    // Together they are long enough for the log to be folded in after them.
    let mut say = async || {
        let mut last = 0;
        for _ in 0..5 {
            last = number(client.ok("chat.inject", said(&"m".repeat(1_000_000))).await);
        }
        last
    };
    let size = |name: &str| fs::metadata(place.data().join(name)).unwrap().len();
    // The file has to be longer than its log becomes, so that the bound is in the way of the one only.
    for _ in 0..10 {
        if size("core.db") < 10_000_000 {
            say().await;
        }
    }
    let folded = size("core.db");
    assert!(folded >= 10_000_000, "its log is folded in: {folded}");
    assert_eq!(program.get("/ready").await.status, 200);
    bound_files(&program, Some(folded + 100_000));
    let last = say().await;
    let reason = database_trouble(&program).await;
    assert!(reason.contains("core.db") && reason.contains("its log grows"), "{reason}");
    bound_files(&program, None);
    ready_again(&program).await;
    assert!(size("core.db") > folded + 4_000_000, "{}", size("core.db"));
    program.kill().await;
    let program = place.start().await;
    let next = program.client().await.ok("chat.inject", said("short")).await;
    assert_eq!(number(next), last + 1, "nothing was lost");
    program.stop().await;
}

/// What to run a command through so that it may write no file larger than 40 KiB, and none at all.
const SMALL_FILES: &[&str] = &["prlimit", "--fsize=40960"];
const NO_FILES: &[&str] = &["prlimit", "--fsize=0"];

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_that_finds_no_room_says_so_and_leaves_nothing_behind() {
    let place = Place::empty();
    let program = place.start().await;
    put(&mut program.client().await, "stored", 100).await.unwrap();
    program.stop().await;
    assert!(fs::metadata(place.data().join("core.db")).unwrap().len() > 40_960, "it is too large for the limit");
    let folder = place.work().join("backups");
    fs::create_dir(&folder).unwrap();
    let target = folder.join("one");
    let backup = ["db", "backup", target.to_str().unwrap()];
    let error = place.run_with(&backup, through(SMALL_FILES)).await.failed(1);
    assert!(error.contains(folder.to_str().unwrap()) && error.contains("ulimit -f"), "{error}");
    assert_eq!(names(&folder), [""; 0]);

    place.run(&backup).await.ok();
    let again = [&backup[..], &["--force"]].concat();
    let error = place.run_with(&again, through(SMALL_FILES)).await.failed(1);
    assert!(error.contains("ulimit -f"), "{error}");
    assert_eq!(names(&folder), ["one"]);
    place.run(&["db", "check", target.to_str().unwrap()]).await.ok();
}

#[tokio::test]
async fn every_command_that_may_not_write_says_why() {
    let place = Place::empty();
    place.start().await.stop().await;
    place.write_config("{logging: {level: 'warn'}}");
    let original = place.work().join("original.db");
    let rows = rusqlite::Connection::open(&original).unwrap();
    rows.execute_batch(
        "CREATE TABLE chats (jid TEXT PRIMARY KEY, name TEXT, last_message_time TEXT);
        CREATE TABLE messages (id TEXT, chat_jid TEXT, sender TEXT, sender_name TEXT, content TEXT, timestamp TEXT,
            is_from_me INTEGER, PRIMARY KEY (id, chat_jid));
        CREATE TABLE registered_groups (jid TEXT PRIMARY KEY, name TEXT, folder TEXT, trigger_pattern TEXT, added_at TEXT);
        INSERT INTO chats VALUES ('ann', 'Ann', '2026-01-05T15:00:00.000Z');
        INSERT INTO messages VALUES ('m', 'ann', 'ann', 'Ann', 'hello', '2026-01-05T15:00:00.000Z', 0);",
    )
    .unwrap();
    drop(rows);
    let import = ["import", original.to_str().unwrap()];
    let elsewhere = place.work().join("elsewhere");
    for (arguments, wrapper) in [
        (&import[..], SMALL_FILES),
        (&import, NO_FILES),
        (&["config", "set", "logging.level", "debug"], NO_FILES),
        (&["plugin", "new", "late", "--lang", "rust", "--dir", elsewhere.to_str().unwrap()], NO_FILES),
        (&["db", "backup"], NO_FILES),
    ] {
        let error = place.run_with(arguments, through(wrapper)).await.failed(1);
        assert!(error.contains("error: ") && error.contains("ulimit -f"), "{arguments:?}: {error}");
    }
    assert!(fs::read_to_string(place.config_file()).unwrap().contains("warn"));
    assert!(!elsewhere.exists());
    place.run(&import).await.ok();
    place.run(&["db", "check"]).await.ok();
}

/// What to run a program through so that modes bind it: nothing, unless this is root.
fn bound_by_modes(folder: &Path) -> Option<&'static [&'static str]> {
    const NO_OVERRIDE: &[&str] = &["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
    let probe = folder.join("probe");
    if fs::File::create(&probe).is_err() {
        return Some(&[]);
    }
    fs::remove_file(&probe).unwrap();
    let (program, arguments) = NO_OVERRIDE.split_first()?;
    let run = |what: &str| {
        let mut command = Command::new(program);
        command.args(arguments).arg(what).arg(&probe).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    (run("echo") && !run("touch")).then_some(NO_OVERRIDE)
}

#[tokio::test]
async fn a_folder_that_takes_no_files_is_said_and_the_start_works_once_it_does() {
    let place = Place::empty();
    let folder = place.work().join("closed");
    fs::create_dir(&folder).unwrap();
    let mode = |mode: u32| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o500);
    let Some(wrapper) = bound_by_modes(&folder) else {
        return not_run("modes do not bind this user, and `setpriv` cannot give that up");
    };
    let data = folder.join("data");
    let change = |command: &mut Command| {
        env("LEANCLAW_DATA_DIR", data.to_str().unwrap())(command);
        through(wrapper)(command);
    };
    let error = place.refused_start(change).await;
    assert!(error.contains(&data.display().to_string()) && error.contains("hint: "), "{error}");
    mode(0o700);
    place.start_in(&data).await.stop().await;
}

#[tokio::test]
async fn a_database_that_can_only_be_read_is_said_and_nothing_is_lost_once_it_can_be_written() {
    let place = Place::empty();
    let data = place.work().join("data");
    let program = place.start_in(&data).await;
    let mut client = program.client().await;
    put(&mut client, "kept", 10).await.unwrap();
    drop(client);
    program.stop().await;

    let core = data.join("core.db");
    let mode = |mode: u32| fs::set_permissions(&core, fs::Permissions::from_mode(mode)).unwrap();
    let folder = place.work().join("probed");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    let Some(wrapper) = bound_by_modes(&folder) else {
        return not_run("modes do not bind this user, and `setpriv` cannot give that up");
    };
    mode(0o400);
    let change = |command: &mut Command| {
        env("LEANCLAW_DATA_DIR", data.to_str().unwrap())(command);
        through(wrapper)(command);
    };
    let error = place.refused_start(change).await;
    assert!(error.contains(core.to_str().unwrap()) && error.contains("hint: "), "{error}");
    assert!(error.contains("the right to read and write"), "it says what to do: {error}");
    mode(0o600);
    let program = place.start_in(&data).await;
    let mut client = program.client().await;
    let listed = client.call("sessions.list", json!({})).await.unwrap();
    assert!(listed["sessions"].to_string().contains("agent:main:kept"), "{listed}");
    put(&mut client, "new", 10).await.unwrap();
    drop(client);
    program.stop().await;
}
