//! A gateway that says what a test scripts, for what the command line does when a real one would not.

use std::future::Future;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::within;

/// The gateway. Its connections come one after the other.
pub(crate) struct ScriptedGateway {
    /// `ws://` and the address.
    pub(crate) url: String,
    server: JoinHandle<()>,
}

impl ScriptedGateway {
    /// Serves each connection with the script, which is told which one it is, from 0, and who is there.
    pub(crate) async fn start<Served>(script: impl Fn(usize, Peer) -> Served + Send + 'static) -> Self
    where
        Served: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("ws://{}", listener.local_addr().expect("it has an address"));
        let server = tokio::spawn(async move {
            let mut count = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { continue };
                script(count, Peer(socket)).await;
                count += 1;
            }
        });
        Self { url, server }
    }

    /// Fails when a script did.
    pub(crate) async fn end(mut self) {
        if self.server.is_finished() {
            let ended = (&mut self.server).await;
            ended.expect("the scripts were followed");
        }
    }
}

impl Drop for ScriptedGateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Who is connected. Gone with the value.
pub(crate) struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    async fn send(&mut self, frame: Value) {
        within("a frame is sent", self.0.send(Message::text(frame.to_string()))).await.expect("somebody listens");
    }

    /// The handshake; what the client asked for.
    pub(crate) async fn welcome(&mut self) -> Value {
        self.event("connect.challenge", json!({"nonce": "n", "ts": 1})).await;
        let connect = self.request("connect").await;
        let hello = json!({"type": "hello-ok", "protocol": 4, "server": {"version": "x", "connId": "c"}});
        self.answer(&connect, hello).await;
        connect["params"].clone()
    }

    /// The next request, which has to be this one.
    pub(crate) async fn request(&mut self, method: &str) -> Value {
        loop {
            let message = within(method, self.0.next()).await.expect("the client is there").expect("it is heard");
            let Message::Text(text) = message else { continue };
            let request: Value = serde_json::from_str(&text).expect("frames are JSON");
            assert_eq!((&request["type"], &request["method"]), (&json!("req"), &json!(method)), "{request}");
            return request;
        }
    }

    /// Answers a request.
    pub(crate) async fn answer(&mut self, request: &Value, payload: Value) {
        self.send(json!({"type": "res", "id": request["id"], "ok": true, "payload": payload})).await;
    }

    /// Answers a request with an error.
    pub(crate) async fn refuse(&mut self, request: &Value, error: Value) {
        self.send(json!({"type": "res", "id": request["id"], "ok": false, "error": error})).await;
    }

    /// Sends an event.
    pub(crate) async fn event(&mut self, name: &str, payload: Value) {
        self.send(json!({"type": "event", "event": name, "payload": payload})).await;
    }

    /// Waits until the client has gone.
    pub(crate) async fn gone(mut self) {
        while let Some(Ok(_)) = within("the client goes", self.0.next()).await {}
    }
}
