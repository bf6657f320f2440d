//! What the kits promise plugin authors, asked of real components: in each language one plugin that uses every part of its
//! kit (`kits/everything.*`), made by the kit's own build, granted and called on the real program. All of them are asked
//! the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response as Upgrade};

use super::walk_through::{JAVASCRIPT, PYTHON, RUST, Walk, build, in_folder, needs, new};
use crate::support::{Client, Place, Program, Recorder, Response, eventually_or, request, text};

const ID: &str = "everything";
const KEY: &str = "signing key";
const TOKEN: &str = "bearer-token-that-nobody-sees";

/// Interfaces that the plugins use, for the kits whose world has to name them.
const IMPORTS: &str = "log,settings,kv,credentials,http,events,inbox";
const EXPORTS: &str = "skill,method,hook,channel,webhook,poll,socket,channel-actions";

/// A WebSocket server that greets in text and in bytes, and keeps what it is told.
struct Chatter {
    url: String,
    told: Arc<Mutex<Vec<Message>>>,
    server: JoinHandle<()>,
}

impl Chatter {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(chat(stream, Arc::clone(&kept)));
            }
        });
        Self { url, told, server }
    }

    /// Waits until it was told these, first of all.
    async fn was_told(&self, expected: &[Message]) {
        eventually_or("the plugin's side of the conversation", async || {
            let told = self.told.lock().unwrap().clone();
            if told.starts_with(expected) { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn chat(stream: TcpStream, kept: Arc<Mutex<Vec<Message>>>) {
    let polite = |request: &Request, upgrade: Upgrade| -> Result<Upgrade, ErrorResponse> {
        let greeted = request.headers().get("x-hello").is_some_and(|value| value == "there");
        if greeted { Ok(upgrade) } else { Err(ErrorResponse::new(None)) }
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, polite).await else { return };
    for greeting in [Message::text("hello"), Message::binary(vec![1, 2, 3])] {
        let _ = socket.send(greeting).await;
    }
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            kept.lock().unwrap().push(message);
        }
    }
}

/// The servers that a plugin meets.
struct Servers {
    asked: Recorder,
    polled: Recorder,
    chatter: Chatter,
}

impl Servers {
    async fn start() -> Self {
        const ANSWER: &str =
            "HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n\u{feff}gr\u{fc}\u{df}e";
        const NEWS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n\u{feff}{\"news\":\"fresh\"}";
        let asked = Recorder::start(&[ANSWER, ANSWER]).await;
        Self { asked, polled: Recorder::start(&[NEWS; 3]).await, chatter: Chatter::start().await }
    }

    /// What the plugin asks of an admin.
    fn permissions(&self) -> Value {
        let (asked, polled, socket) = (self.asked.origin(), self.polled.origin(), &self.chatter.url);
        json!({
            "http": ["https://example.com"],
            "privateHttp": [asked, polled, socket],
            "sockets": [socket],
            "secrets": [{"name": "key", "hmac": true}, {"name": "token", "host": asked, "header": "authorization"}],
            "kv": {"quotaBytes": 65536},
            "events": ["seen", "polled", "closed"],
            "hooks": ["before-tool-call", "before-send"],
            "inbox": true, "poll": true, "webhook": true,
        })
    }

    fn settings(&self) -> Value {
        json!({"server": self.polled.origin(), "socket": self.chatter.url})
    }
}

/// The plugin as an author makes it: from the template, with the fixture as its source and what it needs in its manifest.
async fn made(place: &Place, walk: &Walk, source: &str, servers: &Servers, more: &[&str]) -> PathBuf {
    needs(walk.program, walk.tool);
    let folder = new(place, ID, &["--lang", walk.language]).await;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/author/kits");
    fs::copy(fixtures.join(source), folder.join(walk.source)).unwrap();
    let file = folder.join("leanclaw.plugin.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let string = json!({"type": "string"});
    let mut permissions = servers.permissions();
    for name in more {
        permissions[name] = json!(true);
    }
    for (name, value) in [
        ("channels", json!([ID])),
        ("lifecycle", json!("resident")),
        ("permissions", permissions),
        ("configSchema", json!({"type": "object", "properties": {"server": string, "socket": string}})),
    ] {
        manifest[name] = value;
    }
    let command = manifest["build"]["command"].as_array_mut().unwrap();
    if let Some(at) = command.iter().position(|word| word == "--world") {
        command.splice(at..at + 2, [json!("--import"), json!(IMPORTS), json!("--export"), json!(EXPORTS)]);
    }
    fs::write(file, manifest.to_string()).unwrap();
    folder
}

/// Builds, installs and grants the plugin, with its secrets and settings.
async fn installed(walk: &Walk, source: &str, servers: &Servers, more: &[&str]) -> (Place, Program) {
    let place = Place::empty();
    let entry = json!({"plugins": {"entries": {ID: {"config": servers.settings()}}}});
    place.write_config(&entry.to_string());
    let program = place.start().await;
    let folder = made(&place, walk, source, servers, more).await;
    build(&place, &folder, ID).await;
    let done = in_folder(&place, &folder, &["plugin", "install", "--json"]).await.json();
    assert_eq!(done["plugin"]["state"], "needs-grant", "{done}");
    for (name, value) in [("key", KEY), ("token", TOKEN)] {
        let file = place.work().join("secret");
        fs::write(&file, value).unwrap();
        let change = |command: &mut Command| {
            command.stdin(fs::File::open(&file).unwrap());
        };
        place.run_with(&["plugin", "secret", "set", ID, name], change).await.ok();
    }
    (place, program)
}

fn tag(message: &[u8]) -> String {
    let mut tag = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    tag.update(message);
    tag.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A call of one of its methods.
async fn call(client: &mut Client, name: &str, params: Value) -> Result<Value, Value> {
    client.call(&format!("{ID}.{name}"), params).await
}

async fn ok(client: &mut Client, name: &str, params: Value) -> Value {
    call(client, name, params).await.unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn refused(client: &mut Client, name: &str, params: Value) -> Value {
    call(client, name, params).await.expect_err(name)
}

/// Whoever connects after the grant is told the plugin's names.
async fn is_announced(program: &Program) {
    let hello = program.client().await.hello["features"].clone();
    let names = |kind: &str| hello[kind].as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>();
    for (kind, own) in [("methods", ["who", "store", "tell"]), ("events", ["seen", "polled", "closed"])] {
        for name in own {
            assert!(names(kind).contains(&format!("{ID}.{name}").as_str()), "{kind}: {hello}");
        }
    }
}

/// Methods that need the host only.
async fn calls(client: &mut Client, other: &mut Client, servers: &Servers) {
    let stored = ok(client, "store", json!({})).await;
    let expected = json!({
        "code": "conflict", "rises": true, "text": "grüß", "json": {"a": [1]}, "counted": [1, 2],
        "keys": [["count", "json", "text"], ["json"], ["text"]], "removed": [true, false], "gone": true,
    });
    assert_eq!(stored, expected);

    let signed = ok(client, "sign", json!({"message": "grüß", "tag": tag("grüß".as_bytes())})).await;
    let expected = json!({"tag": tag("grüß".as_bytes()), "valid": true, "forged": false, "known": [true, false]});
    assert_eq!(signed, expected);

    assert_eq!(ok(client, "tell", json!({"what": "ä"})).await, servers.settings());
    assert_eq!(other.event("everything.seen").await, json!({"what": "ä"}));
    let undeclared = refused(client, "undeclared", json!({})).await;
    assert_eq!(undeclared["details"]["code"], "denied", "{undeclared}");

    let who = ok(client, "who", json!({})).await;
    assert_eq!((&who["kind"], &who["scopes"]), (&json!("client"), &json!(["operator.admin"])), "{who}");
    assert_eq!((&who["named"], &who["hasTime"], &who["cancelled"]), (&json!(true), &json!(true), &json!(false)));

    let failed = refused(client, "fail", json!({})).await;
    assert_eq!((&failed["details"]["code"], &failed["message"]), (&json!("rate-limited"), &json!("Slow down.")));
    assert_eq!((&failed["retryable"], &failed["retryAfterMs"]), (&json!(true), &json!(1500)), "{failed}");
}

/// Requests: the same call works, is denied without the grant, and works again with it.
async fn requests(client: &mut Client, servers: &mut Servers) {
    let origin = servers.asked.origin();
    let params = json!({"url": format!("{origin}/in?a=1"), "json": {"say": "ä"}});
    let works = json!({"ok": true, "status": 201, "kind": "text/plain", "text": "grüße", "again": true});
    assert_eq!(ok(client, "ask", params.clone()).await, works);
    let got = servers.asked.received().await;
    assert_eq!((got.line.as_str(), got.header("content-type")), ("POST /in?a=1 HTTP/1.1", Some("application/json")));
    assert_eq!(got.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()), "the host puts the secret in");
    assert_eq!(serde_json::from_slice::<Value>(&got.body).unwrap(), json!({"say": "ä"}));

    let grant = json!({"pluginId": ID, "items": [format!("private-http:{origin}")]});
    client.ok("plugins.revoke", grant.clone()).await;
    let denied = refused(client, "ask", params.clone()).await;
    assert_eq!(denied["details"]["code"], "denied", "{denied}");
    client.ok("plugins.grant", grant).await;
    assert_eq!(ok(client, "ask", params).await, works);
}

/// The hook, asked about a tool and about messages of the plugin's own channel.
async fn hooks_and_deliveries(client: &mut Client) {
    let pack = async |client: &mut Client, text: &str| {
        client.ok("tools.invoke", json!({"name": "pack", "args": {"text": text}})).await
    };
    let packed = pack(client, "größe").await;
    assert_eq!(packed["output"]["details"], json!({"length": 5}), "{packed}");
    assert!(packed["output"].to_string().contains("packed"), "{packed}");
    let denied = pack(client, "forbidden").await;
    assert_eq!(denied["error"]["code"], "denied", "{denied}");
    assert!(text(&denied["error"]["message"]).contains("It is forbidden."), "{denied}");

    let send =
        |key: &str, message: &str| json!({"to": "room", "channel": ID, "message": message, "idempotencyKey": key});
    assert_eq!(client.ok("send", send("1", "quiet")).await["messageId"], "room:quiet");
    assert_eq!(client.ok("send", send("2", "hällo")).await["messageId"], "room:HÄLLO", "the hook rewrites it");
    let later = client.refused("send", send("3", "later")).await;
    assert_eq!((&later["retryable"], &later["retryAfterMs"]), (&json!(true), &json!(2000)), "{later}");
}

async fn webhooks(program: &Program) {
    let post = async |id: &str, signed_as: &str| -> Response {
        let body = format!("\u{feff}{}", json!({"id": id, "text": "hällo"}));
        let tag = tag(if signed_as.is_empty() { body.as_bytes() } else { signed_as.as_bytes() });
        let path = "/plugins/everything/hook/in?x=1";
        request(program.address, "POST", path, &[("x-tag", tag.as_str())], body.as_bytes()).await
    };
    let taken = post("m1", "").await;
    assert_eq!((taken.status, taken.header("x-path")), (202, Some("/in")), "{taken:?}");
    assert_eq!(taken.json(), json!({"status": "accepted", "query": "x=1"}));
    assert_eq!(post("m1", "").await.json()["status"], "duplicate");
    let forged = post("m2", "something else").await;
    assert_eq!((forged.status, forged.text().as_str()), (401, "forged"));
    assert_eq!(program.get("/plugins/everything/hook/in").await.status, 405);
}

/// What the host drives: the poll and the WebSocket.
async fn driven(other: &mut Client, servers: &mut Servers) {
    let polled = servers.polled.received().await;
    assert_eq!((polled.line.as_str(), polled.header("x-since")), ("GET /updates HTTP/1.1", Some("7")));
    assert_eq!(other.event("everything.polled").await, json!({"status": 200, "news": "fresh"}));
    let says =
        [Message::text("opened"), Message::text("HELLO"), Message::binary(vec![3, 2, 1]), Message::text("woken")];
    servers.chatter.was_told(&says).await;
    assert_eq!(other.event("everything.closed").await, json!({"code": 1000}));
}

/// What a channel can do besides sending has no gateway method yet; its author can ask for it.
async fn acts(place: &Place) {
    let folder = place.work().join(ID);
    let ask =
        |action: &str| json!({"action": action, "place": {"id": "room", "kind": "group"}, "arguments": {"seconds": 3}});
    let perform = async |action: &str| {
        in_folder(
            place,
            &folder,
            &["plugin", "run", "dist/everything.wasm", "--grant-all", "--action", &ask(action).to_string()],
        )
        .await
    };
    assert_eq!(perform("typing").await.json(), json!({"place": "room", "seconds": 3}));
    assert!(perform("dance").await.failed(1).contains("does not list the ability `dance`"));
}

/// Asks a plugin everything; the client is one that may go on asking.
async fn asked_everything(walk: &Walk, source: &str, more: &[&str]) -> (Place, Program, Client) {
    let mut servers = Servers::start().await;
    let (place, program) = installed(walk, source, &servers, more).await;
    let (mut client, mut other) = (program.client().await, program.client().await);
    let granted = in_folder(&place, &place.work(), &["plugin", "grant", ID, "--all", "--yes", "--json"]).await.json();
    assert_eq!(granted["state"], "ready", "{granted}");
    is_announced(&program).await;
    driven(&mut other, &mut servers).await;
    calls(&mut client, &mut other, &servers).await;
    hooks_and_deliveries(&mut client).await;
    webhooks(&program).await;
    requests(&mut client, &mut servers).await;
    acts(&place).await;
    let logs = place.run(&["plugin", "logs", ID]).await.ok();
    for said in ["told", "what=ä", "count=2", "half", "a piece"] {
        assert!(logs.contains(said), "{said}: {logs}");
    }
    assert!(!logs.contains(TOKEN) && !program.log().contains(TOKEN), "{logs}");
    (place, program, client)
}

#[tokio::test]
async fn javascript() {
    let (_place, program, mut client) = asked_everything(&JAVASCRIPT, "everything.js", &[]).await;
    let crashed = refused(&mut client, "crash", json!({})).await;
    assert_eq!(crashed["details"]["code"], "internal", "{crashed}");
    ok(&mut client, "who", json!({})).await;
    program.stop().await;
}

#[tokio::test]
async fn python() {
    let (_place, program, mut client) = asked_everything(&PYTHON, "everything.py", &[]).await;
    let crashed = refused(&mut client, "crash", json!({})).await;
    assert_eq!(crashed["details"]["code"], "internal", "{crashed}");
    ok(&mut client, "who", json!({})).await;
    program.stop().await;
}

#[tokio::test]
async fn rust() {
    let (_place, program, _client) = asked_everything(&RUST, "everything.rs", &["httpRoutes"]).await;
    let headers = [("x-ask", "me")];
    let path = "/plugins/everything/http/page/1?x=1";
    let page = request(program.address, "PUT", path, &headers, "grüß".as_bytes()).await;
    assert_eq!((page.status, page.header("x-answer")), (203, Some("me")), "{page:?}");
    assert_eq!(page.json(), json!({"method": "PUT", "path": "/page/1", "query": "x=1", "body": "grüß"}));
    program.stop().await;
}
