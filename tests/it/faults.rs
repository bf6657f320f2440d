//! What goes wrong around the program: kills, crowds, slow readers (disks are in `disks.rs`). What was acknowledged stays, what cannot be done is said, and once
//! the cause is gone everything works again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Error;

use crate::support::{Client, Place, Program, eventually, request, text};

/// Makes sessions one after the other until the connection ends; the keys of those that were acknowledged.
async fn write_until_the_end(mut client: Client, writer: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0..250 {
        let key = format!("agent:main:ledger-{writer}-{number}");
        let params = json!({"key": key, "label": format!("entry {writer}-{number}")});
        let Some(id) = client.send_if_open("sessions.patch", params).await else { break };
        match client.answer_if_any(&id).await {
            Some(_) => acknowledged.push(key),
            None => break,
        }
    }
    acknowledged
}

async fn ledger(program: &Program) -> BTreeSet<String> {
    let mut client = program.client().await;
    let listed = client.ok("sessions.list", json!({"limit": 5000, "search": "ledger-"})).await;
    listed["sessions"].as_array().unwrap().iter().map(|session| text(&session["key"]).to_owned()).collect()
}

/// A thousand writes, and a kill in the middle of them.
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_it_is_killed() {
    let place = Place::empty();
    let program = place.start().await;
    let mut watcher = program.client().await;
    watcher.ok("sessions.subscribe", json!({})).await;
    let mut writers = Vec::new();
    for writer in 0..4 {
        writers.push(tokio::spawn(write_until_the_end(program.client().await, writer)));
    }
    // It is told of what was written, so the kill comes when about half of it was.
    for _ in 0..400 {
        watcher.event("sessions.changed").await;
    }
    program.kill().await;
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!((100..1000).contains(&acknowledged.len()), "the kill came in the middle: {}", acknowledged.len());
    place.run(&["db", "check"]).await.ok();
    let program = place.start().await;
    let kept = ledger(&program).await;
    let lost: Vec<&String> = acknowledged.difference(&kept).collect();
    assert!(lost.is_empty(), "{lost:?}");
    program.stop().await;
}

/// A TCP connection from an address of our own choice.
async fn from(source: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((IpAddr::from(source), 0).into()).ok()?;
    socket.connect(to).await.ok()
}

/// Whether the other side has ended it.
fn is_over(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Ten thousand connections that say nothing come from one address: it gets what one address gets, and others are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_half_open_sockets_keep_nobody_out() {
    const SOCKETS: usize = 10_000;
    let place = Place::empty();
    let program = place.start().await;
    let before = program.resident_bytes();
    let crowd = Ipv4Addr::new(127, 0, 0, 2);
    let mut open: Vec<TcpStream> = Vec::new();
    let mut tried = 0;
    while tried < SOCKETS {
        let batch = (0..100).map(|_| from(crowd, program.address));
        open.extend(futures_util::future::join_all(batch).await.into_iter().flatten());
        tried += 100;
        // Those that were turned away are let go, so that this needs few files itself.
        open.retain(|stream| !is_over(stream));
    }
    eventually("all but the cap are turned away", async || {
        open.retain(|stream| !is_over(stream));
        (open.len() <= 512).then_some(())
    })
    .await;
    assert!(open.len() >= 256, "an address gets something: {}", open.len());
    let mut client = program.client().await;
    assert_eq!(client.ok("health", json!({})).await["ok"], true);
    assert_eq!(request(program.address, "GET", "/ready", &[], b"").await.status, 200);
    let grown = program.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes more than before");
    drop(open);
    eventually("the address is served again", async || {
        let mut stream = from(crowd, program.address).await?;
        let ask = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
        stream.write_all(ask).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    program.stop().await;
}

/// WebSockets that never say who they are: one address gets 32 of them, whoever else comes is let in, and a place that is
/// left is free again.
#[tokio::test]
async fn sockets_without_a_handshake_are_few_for_an_address() {
    const MOST: usize = 32;
    let place = Place::empty();
    let program = place.start().await;
    let open = async |source: Ipv4Addr| {
        let stream = from(source, program.address).await.expect("TCP is taken");
        match Client::open_over(stream, program.address, None).await {
            Ok(mut client) => {
                client.event("connect.challenge").await;
                Ok(client)
            }
            Err(Error::Http(refusal)) => Err((refusal.status().as_u16(), refusal.headers()["retry-after"].clone())),
            Err(other) => panic!("{other}"),
        }
    };
    let crowd = Ipv4Addr::new(127, 0, 0, 3);
    // All at once, as none of them is left alone for long.
    let opened = join_all((0..MOST).map(|_| open(crowd))).await;
    let mut idle: Vec<Client> = opened.into_iter().map(|opened| opened.expect("it is one of the first")).collect();
    let refused = open(crowd).await.err().expect("it is one too many");
    assert_eq!((refused.0, refused.1.to_str().unwrap()), (429, "1"));
    open(Ipv4Addr::new(127, 0, 0, 4)).await.expect("another address has places of its own");
    drop(idle.pop());
    idle.push(eventually("its place is free again", async || open(crowd).await.ok()).await);
    assert_eq!(open(crowd).await.err().expect("only one has left").0, 429);
    program.stop().await;
}

fn gzipped(bytes: usize) -> Vec<u8> {
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip is there");
    let mut stdin = gzip.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        let piece = vec![b' '; 1024 * 1024];
        for _ in 0..bytes / piece.len() {
            stdin.write_all(&piece).unwrap();
        }
    });
    let output = gzip.wait_with_output().unwrap();
    writing.join().unwrap();
    output.stdout
}

/// Nothing that comes in is unpacked, so nothing can blow up.
#[tokio::test]
async fn a_packed_body_is_refused_as_it_is() {
    let place = Place::empty();
    let program = place.start().await;
    let before = program.resident_bytes();
    let bomb = gzipped(512 * 1024 * 1024);
    assert!(bomb.len() < 1024 * 1024, "{}", bomb.len());
    for encoding in ["gzip", "x-gzip", "deflate", "br"] {
        let headers = [("content-encoding", encoding), ("content-type", "application/json")];
        let answer = request(program.address, "POST", "/tools/invoke", &headers, &bomb).await;
        assert!(matches!(answer.status, 400 | 415), "{encoding}: {answer:?}");
    }
    let grown = program.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes more than before");
    // Nor are WebSocket messages: the extension is not agreed to.
    let upgrade = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    stream.write_all(upgrade).await.unwrap();
    let mut head = vec![0; 4096];
    let count = stream.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..count]).to_lowercase();
    assert!(head.starts_with("http/1.1 101") && !head.contains("sec-websocket-extensions"), "{head}");
    drop(stream);
    program.stop().await;
}

/// Texts that are awkward to store and to compare come back as they were, also after a restart, or are refused.
#[tokio::test]
async fn unicode_is_kept_and_nul_is_refused() {
    let place = Place::empty();
    let program = place.start().await;
    let labels = ["é", "e\u{301}", "\u{1F980}\u{200d}\u{1F980}", "\u{202e}abc", "ﷺ", "İi", "\u{10ffff}"];
    let mut client = program.client().await;
    for (number, label) in labels.iter().enumerate() {
        client.ok("sessions.patch", json!({"key": format!("u{number}"), "label": label})).await;
    }
    for params in [json!({"key": "a\0b"}), json!({"key": "\u{7}"}), json!({"key": ""})] {
        let error = client.refused("sessions.patch", params).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    }
    program.stop().await;
    let program = place.start().await;
    let mut client = program.client().await;
    for (number, label) in labels.iter().enumerate() {
        let found = client.ok("sessions.resolve", json!({"label": label})).await;
        assert_eq!(found["key"], format!("agent:main:u{number}"), "{label:?}");
    }
    program.stop().await;
}

/// The start waits for another program's lock: who connects meanwhile is told, and served once it is over.
#[tokio::test]
async fn who_connects_during_a_slow_start_is_told_to_come_again() {
    let place = Place::empty();
    let file = place.data().join("core.db");
    fs::create_dir_all(place.data()).unwrap();
    fs::File::create(&file).unwrap();
    let holder = rusqlite::Connection::open(&file).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut starting = place.starting();
    let address = starting.listening().await;
    let startup = eventually("somebody answers", async || {
        let answer = request(address, "GET", "/startupz", &[], b"").await;
        (answer.status == 503).then(|| answer.json())
    })
    .await;
    assert_eq!(startup, json!({"ok": false, "status": "starting"}));
    assert_eq!(request(address, "GET", "/healthz", &[], b"").await.status, 200);
    assert_eq!(request(address, "GET", "/readyz", &[], b"").await.status, 503);
    let mut early = Client::open(address, None).await.unwrap();
    let connect = crate::support::Connect::default().params();
    let error = early.refused("connect", connect).await;
    assert_eq!((&error["code"], &error["retryAfterMs"]), (&json!("UNAVAILABLE"), &json!(500)), "{error}");
    assert_eq!(early.closed().await, Some((1013, "gateway starting".to_owned())));
    drop(holder);
    let program = starting.ready().await;
    assert_eq!(request(address, "GET", "/startupz", &[], b"").await.status, 200);
    assert_eq!(program.client().await.ok("health", json!({})).await["ok"], true);
    program.stop().await;
}
