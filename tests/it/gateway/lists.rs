//! Lists of sessions, which keep the rows they made: every change shows in the next list, whoever made it.

use serde_json::{Value, json};

use crate::support::{Client, Connect, Place};

/// Lists everything in other words each time, so that only rows can be kept, and not the answer.
async fn list(client: &mut Client, limit: &mut u64) -> Value {
    *limit += 1;
    let params = json!({
        "limit": *limit, "archived": "all", "includeGlobal": true, "includeDerivedTitles": true, "includeLastMessage": true,
    });
    client.ok("sessions.list", params).await["sessions"].clone()
}

/// The row of a session as it is made anew for it alone.
async fn described(client: &mut Client, key: &str) -> Value {
    let params = json!({"key": key, "includeDerivedTitles": true, "includeLastMessage": true});
    client.ok("sessions.describe", params).await["session"].clone()
}

#[tokio::test]
async fn every_change_of_a_session_shows_in_the_next_list_of_another_client() {
    let place = Place::empty();
    let program = place.start().await;
    let (mut writer, mut reader) = (program.client().await, program.client().await);
    let old = Connect { protocols: (3, 3), ..Connect::default() };
    let mut oldest = old.to(program.address).await.unwrap();
    let (key, other, mut limit) = ("agent:main:seen", "agent:main:other", 100);
    for key in [other, key] {
        writer.ok("sessions.create", json!({"key": key})).await;
    }
    let changes = [
        ("sessions.patch", json!({"key": key, "label": "First"})),
        ("sessions.patch", json!({"key": key, "label": "Second"})),
        ("sessions.patch", json!({"key": key, "label": null, "color": "red", "thinkingLevel": "low", "unread": true})),
        ("sessions.patch", json!({"key": key, "model": "fake/echo", "pinned": true, "unread": false})),
        ("chat.inject", json!({"sessionKey": key, "message": "It rains."})),
        ("chat.inject", json!({"sessionKey": key, "message": "It will rain."})),
        ("sessions.compact", json!({"key": key, "maxLines": 1})),
        ("sessions.reset", json!({"key": key})),
        ("sessions.patch", json!({"key": key, "archived": true})),
        ("sessions.patch", json!({"key": key, "archived": false, "label": "Shown"})),
    ];
    let mut before = list(&mut reader, &mut limit).await;
    let mut before_v3 = list_v3(&mut oldest, &mut limit).await;
    for (method, params) in changes {
        writer.ok(method, params.clone()).await;
        let after = list(&mut reader, &mut limit).await;
        assert_eq!(after[0], described(&mut reader, key).await, "{method} {params}");
        assert_ne!(after[0], before[0], "{method} {params}");
        assert_eq!((after.as_array().unwrap().len(), &after[1]), (2, &before[1]), "{method} {params}");
        let after_v3 = list_v3(&mut oldest, &mut limit).await;
        assert_ne!(after_v3, before_v3, "version 3: {method} {params}");
        (before, before_v3) = (after, after_v3);
    }
    writer.ok("sessions.delete", json!({"key": key})).await;
    assert_eq!(list(&mut reader, &mut limit).await, json!([before[1]]));
    writer.ok("sessions.create", json!({"key": key})).await;
    let anew = list(&mut reader, &mut limit).await;
    assert_eq!(anew[0], described(&mut reader, key).await);
    assert_ne!(anew[0]["sessionId"], before[0]["sessionId"]);
    drop(program);
}

/// The newest row as version 3 shows it.
async fn list_v3(client: &mut Client, limit: &mut u64) -> Value {
    *limit += 1;
    client.ok("sessions.list", json!({"limit": *limit})).await["sessions"][0].clone()
}
