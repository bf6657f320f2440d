//! Disks that do not take what is written: what cannot be stored is said, what was stored can be read, and once the cause is
//! gone everything works again. A disk of a few MiB takes the right to mount; limits and modes do the same to anybody.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Client, Place, Program, env, not_run, request, text, through};

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
    // Reading goes on, and what was not stored is not shown.
    let listed = client.ok("sessions.list", json!({"limit": 5000})).await.to_string();
    assert!(listed.contains("agent:main:before") && !listed.contains(&format!("full-{number}\"")), "{number}");
    assert_eq!(request(program.address, "GET", "/health", &[], b"").await.status, 200);

    fs::remove_file(filler).unwrap();
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

    bound_files(&program, None);
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
