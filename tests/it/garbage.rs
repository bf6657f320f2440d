//! Bad input from all sides. After each kind of it the program serves as before, and its memory is what it was.

use std::fs;
use std::net::SocketAddr;

use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Connect, Place, Program, env, install_guest, manifest, raw, request, text, within};

const MIB: u64 = 1024 * 1024;

/// A program with a plugin that gives back what it is given.
async fn echoing() -> (Place, Program) {
    let place = Place::empty();
    install_guest(&place, &manifest("echo", "1", &json!({})), &leanclaw_test_guests::echo().unwrap());
    let program = place.start().await;
    assert_eq!(program.grant_all("echo").await["state"], "ready");
    (place, program)
}

/// Everything still works, with memory to spare.
async fn still_serves(program: &Program, before_bytes: u64) {
    assert_eq!(program.get("/health").await.status, 200);
    let mut client = program.client().await;
    assert_eq!(client.ok("echo.run", json!({"a": [1, "ü"]})).await, json!({"a": [1, "ü"]}));
    let grown = program.resident_bytes().saturating_sub(before_bytes);
    assert!(grown < 256 * MIB, "{} MiB more than before", grown / MIB);
}

#[tokio::test]
async fn garbage_instead_of_http() {
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let mut random = SmallRng::seed_from_u64(1);
    let long_header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5000));
    let mut inputs: Vec<Vec<u8>> = [
        "",
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "POST /tools/invoke HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nzz\r\n\r\n",
        "POST /tools/invoke HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST /tools/invoke HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 18446744073709551615\r\nconnection: close\r\n\r\n",
        "GET /plugins/../../etc/passwd HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET /plugins/%00/http/ HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade, close\r\nsec-websocket-version: 13\r\nsec-websocket-key: short\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade, close\r\nsec-websocket-version: 8\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        long_header.as_str(),
        many_headers.as_str(),
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    for _ in 0..50 {
        let mut bytes = vec![0; random.random_range(1..2000)];
        random.fill_bytes(&mut bytes);
        inputs.push(bytes);
    }
    for input in inputs {
        let answer = send_and_end(program.address, &input).await;
        let start = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        let refused = start.is_empty() || start.starts_with("HTTP/1.1 4") || start.starts_with("HTTP/1.0 4");
        assert!(refused, "{:?}: {start:?}", String::from_utf8_lossy(&input[..input.len().min(60)]));
    }
    still_serves(&program, before).await;
    program.stop().await;
}

/// Sends bytes, says that there are no more, and reads what comes back.
async fn send_and_end(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    within("the gateway ends a bad connection", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        let sending = async {
            // Who is refused early may not be listened to any further.
            let _ = writing.write_all(bytes).await;
            let _ = writing.shutdown().await;
        };
        let (_, _) = tokio::join!(sending, reading.read_to_end(&mut answer));
        answer
    })
    .await
}

/// After a bad message the connection either goes on or has ended: it is never left hanging.
async fn goes_on_or_has_ended(mut client: Client) {
    if let Some(id) = client.send_if_open("health", json!({})).await {
        let _ = client.answer_if_any(&id).await;
    }
}

#[tokio::test]
async fn garbage_instead_of_frames() {
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let frames = [
        "",
        "null",
        "[]",
        "{}",
        "\"req\"",
        "{\"type\":\"req\"}",
        "{\"type\":\"req\",\"id\":1,\"method\":\"health\"}",
        "{\"type\":\"event\",\"event\":\"x\"}",
        "{\"type\":\"req\",\"id\":\"1\",\"method\":\"health\",\"params\":7,\"more\":1}",
        "{\"type\":\"req\",\"id\":\"1\",\"method\":\"\\u0000\",\"params\":{}}",
        "{\"type\":\"req\",\"id\":\"\",\"method\":\"\"}",
        "{\"type\":\"req\",\"type\":\"req\",\"id\":\"1\",\"method\":\"health\"}",
        "{\"a\":",
        "\u{feff}{}",
    ];
    for frame in frames {
        // Before the handshake it ends the connection, after it the connection may go on.
        let mut stranger = Client::open(program.address, None).await.unwrap();
        stranger.send_message(Message::text(frame)).await.unwrap();
        stranger.closed().await;
        let mut client = program.client().await;
        client.send_message(Message::text(frame)).await.unwrap();
        goes_on_or_has_ended(client).await;
    }
    let mut random = SmallRng::seed_from_u64(2);
    for _ in 0..40 {
        let mut bytes = vec![0; random.random_range(1..5000)];
        random.fill_bytes(&mut bytes);
        for mut client in [Client::open(program.address, None).await.unwrap(), program.client().await] {
            // It may be closed before all is sent.
            let _ = client.send_message(Message::binary(bytes.clone())).await;
            goes_on_or_has_ended(client).await;
        }
    }
    still_serves(&program, before).await;
    program.stop().await;
}

/// Bytes that are no WebSocket frames, right after a good upgrade.
#[tokio::test]
async fn a_broken_websocket() {
    const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let mut random = SmallRng::seed_from_u64(3);
    let mut inputs: Vec<Vec<u8>> = vec![
        vec![],
        // Not masked.
        vec![0x81, 0x02, b'h', b'i'],
        // A length of 2^63 - 1 bytes.
        vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        // Reserved bits, a reserved opcode.
        vec![0xf1, 0x80, 1, 2, 3, 4],
        vec![0x8b, 0x80, 1, 2, 3, 4],
        // A ping that is too long, a continuation of nothing, a close with half a code.
        [vec![0x89, 0xfe, 0x01, 0x00, 1, 2, 3, 4], vec![0; 256]].concat(),
        vec![0x80, 0x80, 1, 2, 3, 4],
        vec![0x88, 0x81, 1, 2, 3, 4, 3],
        // Half a frame, and then no more.
        vec![0x81, 0x85, 1, 2],
    ];
    for _ in 0..40 {
        let mut bytes = vec![0; random.random_range(1..500)];
        random.fill_bytes(&mut bytes);
        inputs.push(bytes);
    }
    for input in inputs {
        let mut stream = TcpStream::connect(program.address).await.unwrap();
        stream.write_all(UPGRADE).await.unwrap();
        let mut head = [0_u8; 12];
        within("the upgrade", stream.read_exact(&mut head)).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        within("the gateway ends it", async {
            // It may hang up before it has read all.
            let _ = stream.write_all(&input).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
    }
    for cut in (1..UPGRADE.len()).step_by(17) {
        send_and_end(program.address, &UPGRADE[..cut]).await;
    }
    still_serves(&program, before).await;
    program.stop().await;
}

#[tokio::test]
async fn frames_that_are_too_large() {
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let most = 25 * 1024 * 1024;
    let huge = "x".repeat(most + 1);
    for _ in 0..3 {
        let client = program.client().await;
        let said = client.send_and_hear_the_end(Message::text(huge.clone())).await;
        assert_eq!(said.map(|(code, _)| code), Some(1009));
        // A stranger may send far less.
        let stranger = Client::open(program.address, None).await.unwrap();
        let said = stranger.send_and_hear_the_end(Message::text("x".repeat(64 * 1024 + 1))).await;
        assert_eq!(said.map(|(code, _)| code), Some(1009));
    }
    let body = request(program.address, "POST", "/tools/invoke", &[], &vec![b' '; 3 * 1024 * 1024]).await;
    assert_eq!(body.status, 413);
    // One byte less is read: no JSON, so nothing is answered, and the connection goes on.
    let mut client = program.client().await;
    client.send_message(Message::text("x".repeat(most))).await.unwrap();
    assert_eq!(client.ok("health", json!({})).await["ok"], true);
    // What is allowed is taken, and costs nothing afterwards.
    let large = json!("y".repeat(20 * 1024 * 1024));
    let mut client = program.client().await;
    let answer = client.call("echo.run", large.clone()).await;
    if let Ok(answer) = answer {
        assert_eq!(answer, large);
    }
    still_serves(&program, before).await;
    program.stop().await;
}

#[tokio::test]
async fn deeply_nested_parameters() {
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let mut client = program.client().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}0{}", open.repeat(100_000), close.repeat(100_000));
        let frame = format!(r#"{{"type":"req","id":"deep","method":"echo.run","params":{deep}}}"#);
        client.send_message(Message::text(frame)).await.unwrap();
        let error = client.answer("deep").await.unwrap_err();
        let said = text(&error["message"]);
        assert!(
            said.starts_with("The plugin `echo` broke its own schema in echo.run: "),
            "nobody could read it: {said}"
        );
        let frame = format!(r#"{{"type":"req","id":"deep","method":"plugins.list","params":{deep}}}"#);
        client.send_message(Message::text(frame)).await.unwrap();
        let error = client.answer("deep").await.unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        let mut stranger = Client::open(program.address, None).await.unwrap();
        // Too large for somebody who is not in yet, or too deep: out either way.
        let shorter = format!("{}0{}", open.repeat(5000), close.repeat(5000));
        stranger.send_message(Message::text(shorter)).await.unwrap();
        stranger.closed().await;
        let body = format!(r#"{{"tool": "x", "args": {deep}}}"#);
        let answer = request(program.address, "POST", "/tools/invoke", &[], body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    still_serves(&program, before).await;
    program.stop().await;
}

/// Connections that say little, slowly: they keep nobody else out.
#[tokio::test]
async fn slow_clients_keep_nobody_out() {
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(program.address).await.unwrap();
        stream.write_all(b"GET /ready HT").await.unwrap();
        slow.push(stream);
    }
    still_serves(&program, before).await;
    // WebSockets without a handshake have a smaller bound of their own. The one too many is refused, and not forever.
    let mut idle = Vec::new();
    let refused = loop {
        match Client::open(program.address, None).await {
            Ok(client) => idle.push(client),
            Err(error) => break error.to_string(),
        }
        assert!(idle.len() < 1000, "no bound");
    };
    assert!(idle.len() >= 16, "{}: {refused}", idle.len());
    drop(idle);
    crate::support::eventually("a place is free again", async || {
        Connect::default().try_to(program.address).await.is_ok().then_some(())
    })
    .await;
    drop(slow);
    still_serves(&program, before).await;
    program.stop().await;
}

/// Answers that nobody reads do not pile up without end.
#[tokio::test]
async fn a_client_that_does_not_read_is_held_back() {
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let mut deaf = program.client().await;
    let params = json!("z".repeat(1024 * 1024));
    let flood = async {
        // 400 MB of answers, if they were all made.
        for _ in 0..400 {
            if deaf.send_if_open("echo.run", params.clone()).await.is_none() {
                break;
            }
        }
    };
    // It comes to a standstill, which is the point.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), flood).await;
    still_serves(&program, before).await;
    program.stop().await;
}

#[tokio::test]
async fn plugins_that_are_none() {
    let place = Place::empty();
    install_guest(&place, &manifest("echo", "1", &json!({})), &leanclaw_test_guests::echo().unwrap());
    let program = place.start_with(env("LOG_FORMAT", "json")).await;
    program.grant_all("echo").await;
    let before = program.resident_bytes();
    let add = |name: &str, file: &str, bytes: &[u8]| {
        let folder = place.plugins().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), bytes).unwrap();
    };
    let padding = " ".repeat(10 * 1024 * 1024);
    add(
        "huge",
        "leanclaw.plugin.json",
        format!(r#"{{"id": "huge", "main": "x.wasm", "description": "{padding}"}}"#).as_bytes(),
    );
    let deep = format!(r#"{{"id": "deep", "configSchema": {}0{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    add("deep", "leanclaw.plugin.json", deep.as_bytes());
    add("binary", "leanclaw.plugin.json", b"\xff\xfe\x00\x01");
    add("nameless", "leanclaw.plugin.json", b"{}");
    add("evil-id", "leanclaw.plugin.json", br#"{"id": "../../etc", "main": "x.wasm"}"#);
    add("empty", "leanclaw.plugin.json", b"");
    fs::write(place.plugins().join("loose.wasm"), b"\0asm").unwrap();
    fs::write(place.plugins().join("readme.txt"), b"hello").unwrap();
    std::os::unix::fs::symlink("/etc", place.plugins().join("link")).unwrap();
    std::os::unix::fs::symlink(place.plugins().join("nowhere"), place.plugins().join("dangling.wasm")).unwrap();
    // Each is refused with a line that names it.
    for name in ["huge", "deep", "binary", "nameless", "evil-id", "empty", "loose.wasm", "link", "dangling.wasm"] {
        let path = place.plugins().join(name).display().to_string();
        crate::support::eventually(name, async || {
            program.log().lines().any(|line| line.contains("refused") && line.contains(&path)).then_some(())
        })
        .await;
    }
    for command in ["list", "reload"] {
        refusals_are_shown(&place, command).await;
    }
    let log = program.log();
    assert!(log.lines().all(|line| line.len() < 10_000), "no manifest is logged whole");
    still_serves(&program, before).await;
    program.stop().await;
}

/// Whoever asks for the plugins is told of the packages that no plugin came of.
async fn refusals_are_shown(place: &Place, command: &str) {
    const REFUSED: [&str; 9] =
        ["binary", "dangling.wasm", "deep", "empty", "evil-id", "huge", "link", "loose.wasm", "nameless"];
    let listed = place.run(&["plugin", command, "--json"]).await;
    assert_eq!(listed.err, "", "JSON says it all");
    let listed = listed.json();
    let (plugins, refused): (Vec<_>, Vec<_>) =
        listed.as_array().unwrap().iter().partition(|entry| entry["state"] != "refused");
    assert_eq!((plugins.len(), &plugins[0]["id"]), (1, &json!("echo")));
    let paths = REFUSED.map(|name| json!(place.plugins().join(name)));
    assert!(refused.iter().map(|entry| &entry["path"]).eq(&paths), "{refused:?}");
    assert!(refused.iter().all(|entry| entry["id"].is_null() && !text(&entry["reason"]).is_empty()), "{refused:?}");

    let shown = place.run(&["plugin", command]).await;
    assert_eq!(shown.out.lines().count(), 2, "a head and a row: {}", shown.out);
    for name in REFUSED {
        let start = format!("warning: {} was refused: ", place.plugins().join(name).display());
        assert!(shown.err.lines().any(|line| line.starts_with(&start)), "{name}: {}", shown.err);
    }
}

/// One whole exchange after another on one connection, cut at every place.
#[tokio::test]
async fn half_a_request() {
    let (_place, program) = echoing().await;
    let before = program.resident_bytes();
    let whole = b"POST /tools/invoke HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
        content-length: 15\r\nconnection: close\r\n\r\n{\"tool\": \"nix\"}";
    for end in (0..whole.len()).step_by(7) {
        send_and_end(program.address, &whole[..end]).await;
    }
    assert!(raw(program.address, whole).await.starts_with(b"HTTP/1.1 404"));
    still_serves(&program, before).await;
    program.stop().await;
}
