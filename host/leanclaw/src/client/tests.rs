//! The client against a small gateway that each test scripts.

use std::future::Future;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;

pub(crate) type Socket = WebSocketStream<TcpStream>;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one connection with `script` and returns the address.
pub(crate) async fn serve<Script, Served>(script: Script) -> String
where
    Script: FnOnce(Socket) -> Served + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
            script(socket).await;
        }
    });
    url
}

pub(crate) async fn send(socket: &mut Socket, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

pub(crate) async fn receive(socket: &mut Socket) -> Value {
    serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
}

/// The server's side of a handshake that succeeds; gives what the client sent.
pub(crate) async fn welcome(socket: &mut Socket) -> Value {
    send(socket, json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": 1}})).await;
    let connect = receive(socket).await;
    let hello = json!({"type": "hello-ok", "protocol": 4, "server": {"version": "x"}});
    send(socket, json!({"type": "res", "id": connect["id"], "ok": true, "payload": hello})).await;
    connect
}

pub(crate) async fn connect(url: &str) -> Result<GatewayClient, ClientError> {
    GatewayClient::connect(&Target::at(url)?.with_token(Secret::new("t0ken"), "--token"), TIMEOUT).await
}

fn hints(error: &ClientError) -> String {
    error.hints().join("\n")
}

#[tokio::test]
async fn a_call_gets_its_own_response_and_keeps_the_events_around_it() {
    let url = serve(|mut socket| async move {
        let connect = welcome(&mut socket).await;
        assert_eq!(connect["method"], "connect");
        let params = &connect["params"];
        assert_eq!((&params["minProtocol"], &params["maxProtocol"]), (&json!(3), &json!(4)));
        assert_eq!((&params["client"]["id"], &params["client"]["mode"]), (&json!("cli"), &json!("cli")));
        assert_eq!(params["auth"], json!({"token": "t0ken"}));
        assert!(params["scopes"].as_array().unwrap().contains(&json!("operator.admin")));

        let request = receive(&mut socket).await;
        assert_eq!((&request["type"], &request["method"]), (&json!("req"), &json!("notes.add")));
        assert_eq!(request["params"], json!({"text": "hi"}));
        send(&mut socket, json!({"type": "event", "event": "tick", "payload": {}, "seq": 1, "new-field": 1})).await;
        send(&mut socket, json!({"type": "res", "id": "another", "ok": true, "payload": "wrong"})).await;
        send(&mut socket, json!({"type": "res", "id": request["id"], "ok": true, "payload": {"id": 7}})).await;

        let request = receive(&mut socket).await;
        assert_eq!(request.get("params"), None, "parameters that are not given are left out");
        send(&mut socket, json!({"type": "res", "id": request["id"], "ok": true})).await;
        send(&mut socket, json!({"type": "event", "event": "notes.changed", "payload": {"n": 2}, "seq": 2})).await;
        let close = CloseFrame { code: 1012.into(), reason: "service restart".into() };
        socket.close(Some(close)).await.unwrap();
        while socket.next().await.is_some() {}
    })
    .await;
    let mut client = connect(&url).await.unwrap();
    assert_eq!(client.hello()["protocol"], 4);
    assert_eq!(client.request("notes.add", Some(json!({"text": "hi"}))).await.unwrap(), json!({"id": 7}));
    assert_eq!(client.request("health", None).await.unwrap(), Value::Null);
    assert_eq!(client.next_event().await.unwrap().map(|event| event.name).as_deref(), Some("tick"));
    let changed = client.next_event().await.unwrap().unwrap();
    assert_eq!((changed.name.as_str(), &changed.payload["n"], changed.seq), ("notes.changed", &json!(2), Some(2)));
    assert_eq!(client.next_event().await.unwrap(), None, "a restart is an orderly end");
}

#[tokio::test]
async fn an_error_response_keeps_its_code_and_hints() {
    let url = serve(|mut socket| async move {
        welcome(&mut socket).await;
        let request = receive(&mut socket).await;
        let error = json!({"code": "FORBIDDEN", "message": "denied\nhint: ask for it", "retryAfterMs": 5,
                           "details": {"code": "NOT_GRANTED", "hints": ["leanclaw plugin grant notes --all"]}});
        send(&mut socket, json!({"type": "res", "id": request["id"], "ok": false, "error": error})).await;
    })
    .await;
    let error = connect(&url).await.unwrap().request("notes.add", None).await.unwrap_err();
    assert_eq!(error.to_string(), "denied (FORBIDDEN, NOT_GRANTED)");
    assert_eq!(error.refusal().unwrap().retry_after_ms, Some(5));
    assert_eq!(hints(&error), "leanclaw plugin grant notes --all\nask for it\nit may work in 5 ms");
}

#[tokio::test]
async fn a_wrong_token_is_named_and_not_shown() {
    let url = serve(|mut socket| async move {
        send(&mut socket, json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n"}})).await;
        let request = receive(&mut socket).await;
        let error = json!({"code": "INVALID_REQUEST", "message": "unauthorized: gateway token mismatch",
                           "details": {"code": "AUTH_TOKEN_MISMATCH"}});
        send(&mut socket, json!({"type": "res", "id": request["id"], "ok": false, "error": error})).await;
    })
    .await;
    let error = connect(&url).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectRefused { .. }), "{error}");
    assert!(error.to_string().contains("token mismatch"), "{error}");
    assert!(hints(&error).contains("--token") && hints(&error).contains("LEANCLAW_GATEWAY_API_KEY"));
    assert!(!format!("{error:?} {}", hints(&error)).contains("t0ken"));
}

#[tokio::test]
async fn nothing_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = connect(&url).await.unwrap_err();
    assert!(matches!(error, ClientError::NotListening { .. }), "{error}");
    assert!(hints(&error).contains("leanclaw start"));
}

/// Answers the first bytes of one TCP connection with `answer`, then closes it.
async fn serve_bytes(answer: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).await.unwrap();
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        // Until the client is gone, so that what was written is not cut off by a reset.
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
    });
    url
}

#[tokio::test]
async fn other_servers_are_told_apart() {
    let answers: [&[u8]; 3] = [b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", b"SSH-2.0-OpenSSH_9.9\r\n", b""];
    for answer in answers {
        let error = connect(&serve_bytes(answer).await).await.unwrap_err();
        assert!(matches!(error, ClientError::NotAGateway { .. }), "{answer:?}: {error:?}");
    }
    let chat = serve(|mut socket| async move { send(&mut socket, json!({"hello": "there"})).await }).await;
    assert!(matches!(connect(&chat).await, Err(ClientError::NotAGateway { .. })));
    let silent = serve(|socket| async move { drop(socket) }).await;
    let error = connect(&silent).await.unwrap_err();
    assert!(matches!(error, ClientError::NotAGateway { .. } | ClientError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn the_reason_of_a_closed_connection_is_told() {
    let url = serve(|mut socket| async move {
        welcome(&mut socket).await;
        receive(&mut socket).await;
        socket.close(Some(CloseFrame { code: 1008.into(), reason: "slow consumer".into() })).await.unwrap();
        while socket.next().await.is_some() {}
    })
    .await;
    let error = connect(&url).await.unwrap().request("health", None).await.unwrap_err();
    assert!(error.to_string().contains("1008, slow consumer"), "{error}");
}

#[tokio::test]
async fn a_gateway_that_never_answers_costs_the_timeout_only() {
    let url = serve(|mut socket| async move {
        welcome(&mut socket).await;
        std::future::pending::<()>().await;
    })
    .await;
    let target = Target::at(&url).unwrap();
    let mut client = GatewayClient::connect(&target, TIMEOUT).await.unwrap();
    client.timeout = Duration::from_millis(20);
    let error = client.request("health", None).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("20 ms") && error.to_string().contains("`health`"), "{error}");
}
