//! The server: routes with queues of replies, and a record of every request.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::record::Recorded;
use crate::reply::Reply;
use crate::wire::{Written, read_request, write_reply};

/// Decides what a request is answered with.
type Answer = Arc<dyn Fn(&Recorded) -> Reply + Send + Sync>;

#[derive(Default)]
struct Script {
    /// One for each next request.
    queue: VecDeque<Answer>,
    /// For every request once the queue is empty.
    always: Option<Answer>,
}

#[derive(Default)]
struct State {
    is_forgetful: bool,
    scripts: Mutex<HashMap<(String, String), Script>>,
    requests: Mutex<Vec<Recorded>>,
    changed: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// What to answer; a request that no script expects is told so.
    fn answer(&self, request: &Recorded) -> Reply {
        let answer = locked(&self.scripts)
            .get_mut(&(request.method.clone(), request.path.clone()))
            .and_then(|script| script.queue.pop_front().or_else(|| script.always.clone()));
        let Some(answer) = answer else {
            let message = format!("no reply is scripted for this {} {}", request.method, request.path);
            return Reply::json(418, &json!({"type": "error", "error": {"type": "unscripted", "message": message}}));
        };
        answer(request)
    }

    async fn serve(&self, mut stream: TcpStream) {
        let Ok(request) = read_request(&mut stream).await else { return };
        let reply = self.answer(&request);
        if self.is_forgetful {
            write_reply(stream, &reply).await;
            return;
        }
        let index = {
            let mut requests = locked(&self.requests);
            requests.push(request);
            requests.len() - 1
        };
        self.changed.notify_waiters();
        let written = write_reply(stream, &reply).await;
        if let Some(request) = locked(&self.requests).get_mut(index) {
            request.answered = written == Written::Whole;
            request.disconnected = written == Written::Disconnected;
        }
        self.changed.notify_waiters();
    }
}

/// A scriptable HTTP server on 127.0.0.1. It ends when it is dropped.
pub struct FakeServer {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl std::fmt::Debug for FakeServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("FakeServer").field(&self.address).finish()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FakeServer {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_as(State::default()).await
    }

    /// The same, of a server that remembers no requests, however long it runs.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start_forgetful() -> io::Result<Self> {
        Self::start_as(State { is_forgetful: true, ..State::default() }).await
    }

    async fn start_as(state: State) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(state);
        let serving = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            // Aborting the task drops the set, and with it every connection.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let state = Arc::clone(&serving);
                connections.spawn(async move { state.serve(stream).await });
            }
        });
        Ok(Self { address, state, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn script(&self, method: &str, path: &str, change: impl FnOnce(&mut Script)) {
        change(locked(&self.state.scripts).entry((method.to_owned(), path.to_owned())).or_default());
    }

    /// Adds a reply for one more request of `method` and `path`.
    pub fn push(&self, method: &str, path: &str, reply: Reply) {
        self.push_with(method, path, move |_| reply.clone());
    }

    /// Adds a reply for one more request that depends on the request.
    pub fn push_with(&self, method: &str, path: &str, answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) {
        self.script(method, path, |script| script.queue.push_back(Arc::new(answer)));
    }

    /// Answers with this whatever comes once the queue of the route is empty.
    pub fn always(&self, method: &str, path: &str, answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) {
        self.script(method, path, |script| script.always = Some(Arc::new(answer)));
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        locked(&self.state.requests).clone()
    }

    /// Waits until the requests are as wanted; false when they are not within `limit`.
    pub async fn until(&self, limit: Duration, wanted: impl Fn(&[Recorded]) -> bool) -> bool {
        let waiting = async {
            loop {
                // Registered before looking, so that a change in between is not missed.
                let mut changed = std::pin::pin!(self.state.changed.notified());
                changed.as_mut().enable();
                if wanted(&self.requests()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, waiting).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::End;

    async fn ask(server: &FakeServer, text: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(server.address()).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn replies_come_in_order_and_requests_are_remembered() {
        let server = FakeServer::start().await.unwrap();
        server.push("POST", "/a", Reply::sse("one").piece("two"));
        server.always("POST", "/a", |request| Reply::json(200, &json!(request.body.len())));
        let request = "POST /a?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        let first = ask(&server, request).await.unwrap();
        assert!(first.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{first}");
        assert!(ask(&server, request).await.unwrap().ends_with("\r\n\r\n1\r\n2\r\n0\r\n\r\n"));
        let chunked = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert!(ask(&server, chunked).await.unwrap().ends_with("\r\n\r\n1\r\n4\r\n0\r\n\r\n"));
        assert!(ask(&server, "GET /b HTTP/1.1\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 418 "));
        assert!(server.until(Duration::from_secs(5), |requests| requests.iter().all(|one| one.answered)).await);
        let requests = server.requests();
        assert_eq!((requests.len(), requests[0].query.as_str()), (4, "q=1"));
        assert_eq!((requests[0].header("host"), requests[0].text()), (Some("x"), "{}".to_owned()));
        assert_eq!(requests[2].text(), "abcd");
    }

    #[tokio::test]
    async fn every_end_is_what_it_says() {
        let server = FakeServer::start().await.unwrap();
        let request = "GET /a HTTP/1.1\r\n\r\n";
        server.push("GET", "/a", Reply::sse("one").end(End::Close));
        assert!(ask(&server, request).await.unwrap().ends_with("3\r\none\r\n"));
        server.push("GET", "/a", Reply::sse("one").end(End::Reset));
        assert_eq!(ask(&server, request).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        server.push("GET", "/a", Reply::reset());
        assert_eq!(ask(&server, request).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        server.push("GET", "/a", Reply::sse("one").end(End::Hang));
        let hanging = tokio::time::timeout(Duration::from_millis(100), ask(&server, request)).await;
        assert!(hanging.is_err(), "{hanging:?}");
        assert!(server.until(Duration::from_secs(5), |requests| requests[3].disconnected).await);
    }
}
