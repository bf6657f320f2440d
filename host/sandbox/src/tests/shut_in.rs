//! What a program cannot reach.

use super::*;

/// Opens `$path` in the workspace, following links, to read it.
const OPEN: &str = "(drop (call $open (call $folder (i32.const 0)) (global.get $path) (global.get $path_len)
    (i32.const 0) (i32.const 1)))";

/// Does `first` and then opens `path`, in a folder in which `../secret` is a file outside and `inside` one that is not.
async fn opening(first: &str, path: &str, texts: &[(&str, &str)]) -> Cause {
    let guest = program(&format!("{first} {OPEN}")).text("path", path);
    let guest = texts.iter().fold(guest, |guest, (name, text)| guest.text(name, text));
    let place = Place::of(&guest).await;
    let secret = place.folder.path().join("secret");
    std::fs::write(&secret, "not yours").unwrap();
    let workspace = place.workspace();
    std::fs::write(workspace.join("inside"), "yours").unwrap();
    std::fs::create_dir(workspace.join("sub")).unwrap();
    std::os::unix::fs::symlink(&secret, workspace.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", workspace.join("relative")).unwrap();
    std::os::unix::fs::symlink("..", workspace.join("up")).unwrap();
    std::os::unix::fs::symlink("inside", workspace.join("harmless")).unwrap();
    let cause = place.exit().await.cause;
    assert_eq!(std::fs::read(&secret).unwrap(), b"not yours");
    cause
}

/// Whether a run was refused a file, as [`HELP`] says it.
fn is_refused(cause: &Cause) -> bool {
    matches!(cause, Cause::Finished(code) if *code >= 100)
}

#[tokio::test]
async fn no_path_leads_out() {
    for path in ["inside", "sub/../inside", "./inside", "harmless"] {
        assert_eq!(opening("", path, &[]).await, Cause::Finished(0), "{path}");
    }
    let outside = [
        "..",
        "../secret",
        "sub/../../secret",
        "/etc/passwd",
        "/",
        "//etc/passwd",
        "absolute",
        "relative",
        "up/secret",
        "up/workspace/inside",
        "sub/../up/secret",
        "/proc/self/environ",
    ];
    for path in outside {
        let cause = opening("", path, &[]).await;
        assert!(is_refused(&cause), "{path}: {cause:?}");
    }
}

#[tokio::test]
async fn no_link_that_a_program_makes_leads_out() {
    // Whether the link itself is refused or the way through it is the same to us.
    let link =
        "(call $types.descriptor.symlink-at (call $folder (i32.const 0)) (global.get $target) (global.get $target_len)
        (global.get $link) (global.get $link_len) (call $room))";
    for target in ["../secret", "..", "/etc/passwd", "/", "up/secret", "sub/../../secret"] {
        for path in ["way", "way/secret", "way/etc/passwd"] {
            let cause = opening(link, path, &[("target", target), ("link", "way")]).await;
            assert!(is_refused(&cause), "{target} by {path}: {cause:?}");
        }
    }
    let inside = opening(link, "way", &[("target", "inside"), ("link", "way")]).await;
    assert_eq!(inside, Cause::Finished(0), "a link that stays inside works");
}

#[tokio::test]
async fn no_hard_link_and_no_rename_brings_in_what_is_outside() {
    let hard_link = "(call $types.descriptor.link-at (call $folder (i32.const 0)) (i32.const 0)
        (global.get $target) (global.get $target_len)
        (call $folder (i32.const 0)) (global.get $link) (global.get $link_len) (call $room))";
    let rename = "(call $types.descriptor.rename-at (call $folder (i32.const 0))
        (global.get $target) (global.get $target_len)
        (call $folder (i32.const 0)) (global.get $link) (global.get $link_len) (call $room))";
    for way in [hard_link, rename] {
        // The last two are links themselves: one may be given another name, and leads nowhere under that as well.
        for target in ["../secret", "/etc/passwd", "up/secret", "absolute", "relative"] {
            let cause = opening(way, "mine", &[("target", target), ("link", "mine")]).await;
            assert!(is_refused(&cause), "{target}: {cause:?}");
        }
        assert_eq!(opening(way, "mine", &[("target", "inside"), ("link", "mine")]).await, Cause::Finished(0));
    }
}

#[tokio::test]
async fn nothing_is_written_outside() {
    let write = "(call $write (call $open (call $folder (i32.const 0)) (global.get $to) (global.get $to_len)
        (i32.const 9) (i32.const 2)) (global.get $to) (global.get $to_len))";
    for to in ["../secret", "absolute", "relative", "up/secret"] {
        let cause = opening(write, "inside", &[("to", to)]).await;
        assert!(is_refused(&cause), "{to}: {cause:?}");
    }
    assert_eq!(opening(write, "inside", &[("to", "inside")]).await, Cause::Finished(0));
}

/// `access-denied` of `wasi:sockets`, as [`HELP`] ends with it.
const DENIED: Cause = Cause::Finished(101);

#[tokio::test]
async fn there_is_no_network() {
    let socket = "(call $tcp-create-socket.create-tcp-socket (i32.const 0) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 4))";
    assert_eq!(cause_of(socket).await, DENIED);
    let name = "(call $ip-name-lookup.resolve-addresses (call $instance-network.instance-network)
            (global.get $name) (global.get $name_len) (local.tee $area (call $room)))
        (call $check (local.get $area) (i32.const 4))";
    let place = Place::of(&program(name).text("name", "localhost")).await;
    let cause = place.exit().await.cause;
    assert!(is_refused(&cause), "{cause:?}");

    let http = program("(drop (call $types.fields.new))");
    let http = http.beside("import wasi:http/types@0.2.12;").build();
    // Two interfaces are called `types`; whichever the guest means, the one of HTTP is what has `fields`.
    let error = WasiSandbox::load(&engine(1), &WasmSource::bytes(http.unwrap())).await.err().unwrap();
    assert!(error.to_string().contains("wasi:http"), "{error}");
    assert!(error.hints().iter().any(|hint| hint.contains("no network")));
}

#[tokio::test]
async fn the_environment_is_what_the_host_sets() {
    let list = "(call $environment.get-environment (local.tee $area (call $room)))
        (local.set $i (i32.load (local.get $area)))
        (local.set $j (i32.load offset=4 (local.get $area)))
        (block $end (loop $more
            (br_if $end (i32.eqz (local.get $j)))
            (call $say (i32.load (local.get $i)) (i32.load offset=4 (local.get $i)))
            (call $say (global.get $is) (i32.const 1))
            (call $say (i32.load offset=8 (local.get $i)) (i32.load offset=12 (local.get $i)))
            (call $say (global.get $end) (i32.const 1))
            (local.set $i (i32.add (local.get $i) (i32.const 16)))
            (local.set $j (i32.sub (local.get $j) (i32.const 1)))
            (br $more)))
        (call $environment.get-arguments (local.tee $area (call $room)))
        (call $leave (i32.load offset=4 (local.get $area)))";
    let place = Place::of(&program(list).text("is", "=").text("end", "\n")).await;
    for zone in [None, Some("Europe/Berlin")] {
        let spec = RunSpec { time_zone: zone.map(str::to_owned), ..place.spec() };
        let mut run = place.sandbox.start(spec).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = run.output.next_line().await.unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        let zone = zone.map(|zone| format!("TZ={zone}"));
        let expected: Vec<_> = std::iter::once("HOME=/workspace".to_owned()).chain(zone).collect();
        assert_eq!(lines, expected);
        assert_eq!(ended(&mut run).await.cause, Cause::Finished(1), "its own name and no further argument");
    }
}
