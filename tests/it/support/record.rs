//! What was said on the connections of a run, kept for `tests/clients`, which holds every frame to what the protocol says.
//! Owns the lines of the file; what is right is judged there.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Where it is kept; nowhere when the run was not asked to.
static FILE: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
    let folder = std::env::var_os("LEANCLAW_TEST_FRAMES")?;
    let file = Path::new(&folder).join(format!("{}.jsonl", std::process::id()));
    Some(Mutex::new(File::create(file).expect("what is said can be kept")))
});
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// One connection.
pub(super) struct Record(u64);

impl Record {
    pub(super) fn open() -> Self {
        Self(CONNECTIONS.fetch_add(1, Ordering::Relaxed))
    }

    /// What a client sends: of a request its id, its method and what the shape of the answer depends on; of anything else, that it is none.
    pub(super) fn sent(&self, message: &Message) {
        if FILE.is_some() {
            self.keep("sent", request(message).unwrap_or(Value::Null));
        }
    }

    /// A frame of the gateway.
    pub(super) fn heard(&self, text: &str) {
        if FILE.is_some() {
            self.keep("heard", json!(text));
        }
    }

    fn keep(&self, what: &str, said: Value) {
        let line = format!("{}\n", json!({"connection": self.0, what: said}));
        let file = FILE.as_ref().expect("it is kept somewhere");
        file.lock().expect("no test died of writing").write_all(line.as_bytes()).expect("it can be kept");
    }
}

fn request(message: &Message) -> Option<Value> {
    let Message::Text(text) = message else { return None };
    let frame: Value = serde_json::from_str(text).ok()?;
    let known = ["type", "id", "method", "params"];
    let is_one = frame["type"] == "req" && frame.as_object()?.keys().all(|key| known.contains(&key.as_str()));
    let (id, method) = (frame["id"].as_str()?, frame["method"].as_str()?);
    let params = json!({
        "maxProtocol": frame["params"]["maxProtocol"], "leanclaw": frame["params"]["leanclaw"],
        "cursor": frame["params"]["cursor"],
    });
    let is_one = is_one && !id.is_empty() && !method.is_empty();
    is_one.then(|| json!({"type": "req", "id": id, "method": method, "params": params}))
}
