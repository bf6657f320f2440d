//! The folders of a run, what may be done in them, and what it costs.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::{Mount, SandboxError};

/// `insufficient-space`, `insufficient-memory` and `not-permitted`, as [`HELP`] ends with them.
const NO_SPACE: Cause = Cause::Finished(123);
const NO_MEMORY: Cause = Cause::Finished(122);
const NOT_PERMITTED: Cause = Cause::Finished(131);

/// Opens `$path` to be written, and makes it if it is not there.
const MAKE: &str = "(local.set $i (call $open (call $folder (i32.const 0)) (global.get $path) (global.get $path_len) (i32.const 9) (i32.const 2)))";

/// Writes `$text` into the file `$i` through a stream.
const STREAM: &str = "
    (call $types.descriptor.write-via-stream (local.get $i) (i64.const 0) (local.tee $area (call $room)))
    (call $check (local.get $area) (i32.const 4))
    (call $streams.output-stream.blocking-write-and-flush (i32.load offset=4 (local.get $area))
        (global.get $text) (global.get $text_len) (local.tee $area (call $room)))
    (if (i32.load8_u (local.get $area)) (then
        (call $types.filesystem-error-code (i32.load offset=8 (local.get $area)) (local.tee $j (call $room)))
        (call $leave (i32.add (i32.const 100) (i32.load8_u offset=1 (local.get $j))))))";

fn making(path: &str, text: &str, and_then: &str) -> Guest {
    program(&format!("{MAKE} {and_then}")).text("path", path).text("text", text)
}

const WRITE: &str = "(call $write (local.get $i) (global.get $text) (global.get $text_len))";

#[tokio::test]
async fn what_a_program_writes_lies_in_its_folder_and_what_lies_there_can_be_read() {
    for how in [WRITE, STREAM] {
        let read = "(local.set $i (call $open (call $folder (i32.const 0)) (global.get $given) (global.get $given_len)
                (i32.const 0) (i32.const 1)))
            (call $types.descriptor.read (local.get $i) (i64.const 4096) (i64.const 0) (local.tee $area (call $room)))
            (call $check (local.get $area) (i32.const 4))
            (call $say (i32.load offset=4 (local.get $area)) (i32.load offset=8 (local.get $area)))";
        let place =
            Place::of(&making("made.txt", "by the guest", &format!("{how} {read}")).text("given", "given.txt")).await;
        std::fs::write(place.workspace().join("given.txt"), "by the host").unwrap();
        let mut run = place.start().await;
        assert_eq!(run.output.next_line().await.unwrap().unwrap(), b"by the host");
        assert_eq!(ended(&mut run).await.cause, Cause::Finished(0));
        assert_eq!(std::fs::read_to_string(place.workspace().join("made.txt")).unwrap(), "by the guest");
    }
}

/// Each way to change a folder, done in the second folder of a run.
const CHANGES: &[(&str, &str)] = &[
    (
        "make a file",
        "(drop (call $open (local.get $i) (global.get $new) (global.get $new_len) (i32.const 1) (i32.const 2)))",
    ),
    (
        "write",
        "(call $write (call $open (local.get $i) (global.get $old) (global.get $old_len) (i32.const 0) (i32.const 2))
        (global.get $old) (global.get $old_len))",
    ),
    (
        "truncate",
        "(drop (call $open (local.get $i) (global.get $old) (global.get $old_len) (i32.const 8) (i32.const 2)))",
    ),
    (
        "resize",
        "(call $types.descriptor.set-size
            (call $open (local.get $i) (global.get $old) (global.get $old_len) (i32.const 0) (i32.const 2))
            (i64.const 1) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 1))",
    ),
    (
        "make a folder",
        "(call $types.descriptor.create-directory-at (local.get $i) (global.get $new) (global.get $new_len)
            (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 1))",
    ),
    (
        "make a symbolic link",
        "(call $types.descriptor.symlink-at (local.get $i) (global.get $old) (global.get $old_len)
            (global.get $new) (global.get $new_len) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 1))",
    ),
    (
        "make a hard link",
        "(call $types.descriptor.link-at (local.get $i) (i32.const 0) (global.get $old) (global.get $old_len)
            (local.get $i) (global.get $new) (global.get $new_len) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 1))",
    ),
    (
        "rename",
        "(call $types.descriptor.rename-at (local.get $i) (global.get $old) (global.get $old_len)
            (local.get $i) (global.get $new) (global.get $new_len) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 1))",
    ),
    (
        "delete",
        "(call $types.descriptor.unlink-file-at (local.get $i) (global.get $old) (global.get $old_len)
            (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 1))",
    ),
];

#[tokio::test]
async fn a_folder_to_be_read_cannot_be_changed_and_one_to_be_written_can() {
    for (what, change) in CHANGES {
        let guest = program(&format!("(local.set $i (call $folder (i32.const 1))) {change}"))
            .text("old", "old.txt")
            .text("new", "new.txt");
        let place = Place::of(&guest).await;
        for read_only in [true, false] {
            let folder = place.folder.path().join(format!("mounted-{read_only}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("old.txt"), "as it was").unwrap();
            let mount = Mount { host: folder.clone(), guest: "/extra".into(), read_only };
            let spec = RunSpec { mounts: vec![mount], ..place.spec() };
            let exit = ended(&mut place.sandbox.start(spec).await.unwrap()).await;
            let is_untouched = std::fs::read(folder.join("old.txt")).is_ok_and(|text| text == b"as it was")
                && std::fs::read_dir(&folder).unwrap().count() == 1;
            let expected = if read_only { NOT_PERMITTED } else { Cause::Finished(0) };
            assert_eq!((exit.cause, is_untouched), (expected, read_only), "{what}");
        }
    }
}

#[tokio::test]
async fn bytes_written_are_counted() {
    for how in [WRITE, STREAM] {
        let place = Place::of(&making("file", "0123456789", how)).await;
        for (written_bytes, cause) in [(10, Cause::Finished(0)), (9, NO_SPACE)] {
            let spec = RunSpec { limits: RunLimits { written_bytes, ..RunLimits::default() }, ..place.spec() };
            let exit = ended(&mut place.sandbox.start(spec).await.unwrap()).await;
            assert_eq!(exit.cause, cause, "{written_bytes} bytes");
        }
        assert_eq!(std::fs::metadata(place.workspace().join("file")).unwrap().len(), 0, "nothing of the second");
    }
}

#[tokio::test]
async fn entries_are_counted_and_what_is_there_already_is_none() {
    let again = making("one", "", MAKE);
    assert_eq!(Place::of(&again).await.with(|limits| limits.new_entries = 1).exit().await.cause, Cause::Finished(0));
    let two = CHANGES.iter().filter(|(what, _)| what.starts_with("make"));
    for (what, change) in two {
        let guest = making("old", "", &format!("(local.set $i (call $folder (i32.const 0))) {change}"))
            .text("old", "old")
            .text("new", "new");
        let run = |new_entries| {
            let guest = guest.clone();
            async move { Place::of(&guest).await.with(|limits| limits.new_entries = new_entries).exit().await.cause }
        };
        assert_eq!((run(1).await, run(2).await), (NO_SPACE, Cause::Finished(0)), "{what}");
    }
}

#[tokio::test]
async fn listings_are_bounded_together() {
    // Two listings, both held.
    let list = "(call $types.descriptor.read-directory (call $folder (i32.const 0)) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 4))";
    let twice = program(&format!("{list} {list}"));
    let given_back = program(&format!(
        "{list} (call $types.directory-entry-stream.drop (i32.load offset=4 (local.get $area))) {list}"
    ));
    for (guest, room, cause) in
        [(&twice, 16, Cause::Finished(0)), (&twice, 11, NO_MEMORY), (&given_back, 11, Cause::Finished(0))]
    {
        let mut place = Place::of(guest).await;
        for number in 0..6 {
            std::fs::write(place.workspace().join(number.to_string()), "").unwrap();
        }
        place.sandbox = place.sandbox.with_listed_entries(room);
        assert_eq!(place.exit().await.cause, cause, "room for {room}");
    }
}

#[tokio::test]
async fn what_is_neither_file_nor_folder_is_not_opened() {
    let open = "(drop (call $open (call $folder (i32.const 0)) (global.get $path) (global.get $path_len)
        (i32.const 0) (i32.const 1)))";
    let place = Place::of(&program(open).text("path", "pipe")).await;
    let pipe = place.workspace().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(place.exit().await.cause, NOT_PERMITTED);
    std::fs::remove_file(&pipe).unwrap();
    std::fs::write(&pipe, "").unwrap();
    assert_eq!(place.exit().await.cause, Cause::Finished(0));
}

#[tokio::test]
async fn folders_that_cannot_be_mounted_are_named() {
    let place = Place::of(&program("")).await;
    let elsewhere = place.folder.path().join("elsewhere");
    std::os::unix::fs::symlink(place.workspace(), &elsewhere).unwrap();
    std::fs::write(place.folder.path().join("file"), "").unwrap();
    for wrong in [elsewhere, place.folder.path().join("file"), place.folder.path().join("nothing")] {
        let error = place.sandbox.start(RunSpec { workspace: wrong.clone(), ..place.spec() }).await.err().unwrap();
        assert!(matches!(&error, SandboxError::Folder { path, .. } if *path == wrong), "{error}");
        assert!(error.failure().hints[0].contains("has to be a folder"));
    }
    let mounted = |guest: &str| {
        let mount = Mount { host: place.workspace(), guest: guest.into(), read_only: true };
        RunSpec { mounts: vec![mount.clone(), Mount { guest: "/twice".into(), ..mount }], ..place.spec() }
    };
    for wrong in ["relative", "/", "", "/a/../b", "/a//b", "/a/", "/./a", "/workspace", "/twice", "/a:b", "/a\0b"] {
        let error = place.sandbox.start(mounted(wrong)).await.err().unwrap();
        assert!(matches!(error, SandboxError::Mount { .. }) && !error.hints().is_empty(), "{wrong:?}: {error}");
    }
    let mut run = place.sandbox.start(mounted("/workspace/extra/notes")).await.unwrap();
    assert_eq!(ended(&mut run).await.cause, Cause::Finished(0));
}
