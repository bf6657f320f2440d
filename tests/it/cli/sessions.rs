//! `leanclaw sessions`, against a running program and after it was started again.

use serde_json::{Value, json};

use crate::support::Place;

#[tokio::test]
async fn sessions_are_set_listed_reset_and_deleted_and_outlive_the_program() {
    let place = Place::empty();
    let program = place.start().await;
    assert_eq!(place.run(&["sessions"]).await.out, "No session is stored yet.\n");
    assert_eq!(place.run(&["sessions", "--search", "x"]).await.out, "No session is like that.\n");
    let mut watcher = program.client().await;
    watcher.ok("sessions.subscribe", json!({})).await;
    let set = place.run(&["sessions", "set", "notes", "label=My notes", "thinkingLevel=high", "--json"]).await.json();
    assert_eq!((&set["key"], &set["entry"]["label"]), (&json!("agent:main:notes"), &json!("My notes")));
    let event = watcher.event("sessions.changed").await;
    assert_eq!((&event["sessionKey"], &event["reason"]), (&json!("agent:main:notes"), &json!("patch")));
    place.run(&["sessions", "set", "other", "pinned=true"]).await;
    let refused = place.run(&["sessions", "set", "notes", "thinkingLevel=bogus"]).await.failed(1);
    assert!(refused.contains("invalid thinkingLevel (use off|minimal"), "{refused}");
    program.stop().await;

    let program = place.start().await;
    let listed = place.run(&["sessions", "list", "--search", "NOTES", "--json"]).await.json();
    let row = &listed["sessions"][0];
    assert_eq!((&listed["totalCount"], &row["thinkingLevel"]), (&json!(1), &json!("high")));
    assert_eq!(row["sessionId"], set["entry"]["sessionId"]);
    let people = place.run(&["sessions", "--limit", "1"]).await.out;
    assert!(people.contains("SESSION") && people.contains("leanclaw sessions list --offset 1"), "{people}");
    let health = program.client().await.ok("health", json!({})).await;
    assert_eq!((&health["sessions"]["count"], &health["agents"][0]["sessions"]["count"]), (&json!(2), &json!(2)));

    assert_eq!(place.run(&["sessions", "history", "notes"]).await.out, "Nothing was said yet.\n");
    assert_eq!(place.run(&["sessions", "reset", "notes"]).await.out, "agent:main:notes begins anew\n");
    assert_eq!(place.run(&["sessions", "delete", "notes"]).await.out, "agent:main:notes is deleted\n");
    assert_eq!(place.run(&["sessions", "delete", "notes"]).await.out, "agent:main:notes does not exist\n");
    let refused = place.run(&["sessions", "delete", "main"]).await.failed(1);
    assert!(refused.contains("Cannot delete the main session (agent:main:main)."), "{refused}");
    program.stop().await;
    let program = place.start().await;
    let left: Value = program.client().await.ok("sessions.list", json!({})).await["sessions"].clone();
    assert_eq!(left.as_array().unwrap().iter().map(|row| &row["key"]).collect::<Vec<_>>(), ["agent:main:other"]);
    program.stop().await;
}
