//! Frames are read strictly and keep their bytes.

use super::*;
use serde_json::json;

#[test]
fn the_newest_version_inside_the_range_wins() {
    for (minimum, maximum, expected) in [
        (3, 3, Some(ProtocolVersion::V3)),
        (4, 4, Some(ProtocolVersion::V4)),
        (3, 4, Some(ProtocolVersion::V4)),
        (1, 99, Some(ProtocolVersion::V4)),
        (1, 3, Some(ProtocolVersion::V3)),
        (5, 9, None),
        (1, 2, None),
        (4, 3, None),
    ] {
        assert_eq!(ProtocolVersion::negotiate(minimum, maximum), expected, "{minimum}..{maximum}");
    }
}

#[test]
fn a_request_keeps_the_bytes_of_its_params() {
    let text = r#"{"type":"req","id":"1","method":"notes.add","params":{"a" : 1.50, "b":"\u0041"}}"#;
    let frame = RequestFrame::read(text).unwrap();
    assert_eq!(frame.params_text(), r#"{"a" : 1.50, "b":"\u0041"}"#);
    assert!(matches!(frame.id, Cow::Borrowed("1")));
    let bare = RequestFrame::read(r#"{"type":"req","id":"1","method":"m","params":null}"#).unwrap();
    assert_eq!(bare.params_text(), "{}");
}

#[test]
fn what_is_not_a_request_is_refused() {
    for bad in [
        json!({"type": "req", "id": "1", "method": "m", "extra": 1}),
        json!({"type": "res", "id": "1", "method": "m"}),
        json!({"type": "req", "id": 1, "method": "m"}),
        json!({"type": "req", "id": "", "method": "m"}),
        json!({"type": "req", "id": "1", "method": ""}),
        json!({"type": "req", "id": "1", "method": "m", "traceparent": "x".repeat(129)}),
        json!({"type": "req", "id": "1", "method": "m", "expectedProfileId": ""}),
        json!([]),
    ] {
        assert!(RequestFrame::read(&bad.to_string()).is_none(), "{bad}");
    }
}

#[test]
fn credentials_are_not_shown() {
    let auth = ConnectAuth { token: Some("hunter2".into()), ..ConnectAuth::default() };
    assert!(!format!("{auth:?}").contains("hunter2"));
}

#[test]
fn connect_params_are_closed() {
    let good = json!({"minProtocol": 3, "maxProtocol": 4, "client": {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"}});
    assert!(serde_json::from_value::<ConnectParams>(good.clone()).is_ok());
    let mut bad = good;
    bad["foo"] = json!(1);
    assert!(serde_json::from_value::<ConnectParams>(bad).is_err());
}
