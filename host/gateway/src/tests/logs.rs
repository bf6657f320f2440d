//! The program's log, over the wire.

use serde_json::json;

use super::{assert_invalid, start, start_with, with_token};

#[tokio::test]
async fn what_is_written_is_read_and_a_cursor_brings_only_what_is_new() {
    let path = std::env::temp_dir().join(format!("leanclaw-gateway-log-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, "{\"1\":\"first\"}\n{\"1\":\"second\"}\n").unwrap();
    let file = path.clone();
    let server = start_with(with_token(), std::sync::Arc::default(), |services| services.log_file = Some(file)).await;
    for protocol in [3, 4] {
        let mut client = server.connect(protocol, &["operator.read"]).await;
        let first = client.call("logs.tail", json!({"limit": 1, "maxBytes": 250_000})).await["payload"].clone();
        assert_eq!(first["lines"], json!(["{\"1\":\"second\"}"]));
        assert_eq!((first["truncated"].as_bool(), first["reset"].as_bool()), (Some(true), Some(false)));
        assert_eq!((first["cursor"].as_u64(), first["size"].as_u64()), (Some(29), Some(29)));
        assert_eq!(first["file"].as_str(), path.to_str());
        std::fs::write(&path, "{\"1\":\"first\"}\n{\"1\":\"second\"}\nplain\n").unwrap();
        let next = client.call("logs.tail", json!({"cursor": first["cursor"]})).await["payload"].clone();
        assert_eq!((next["lines"].clone(), next["reset"].as_bool()), (json!(["plain"]), Some(false)));
        std::fs::write(&path, "{\"1\":\"first\"}\n{\"1\":\"second\"}\n").unwrap();
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn bounds_and_scope_are_checked() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    let response = client.call("logs.tail", json!({"limit": 0, "maxBytes": 1_000_001})).await;
    assert_invalid(&response, "invalid logs.tail params: at /limit: must be >= 1; at /maxBytes: must be <= 1000000");
    let response = client.call("logs.tail", json!({})).await;
    assert_eq!(response["error"]["message"], "this program keeps no log file");
    let mut outsider = server.connect(4, &[]).await;
    assert_eq!(outsider.call("logs.tail", json!({})).await["error"]["details"]["code"], "MISSING_SCOPE");
}
