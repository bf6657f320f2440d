//! `leanclaw agents` and `leanclaw groups`, against a running program and after it was started again.

use serde_json::json;

use crate::support::Place;

#[tokio::test]
async fn agents_and_groups_are_kept() {
    let place = Place::empty();
    let program = place.start().await;
    let made = place.run(&["agents", "create", "Work Bot", "--emoji", "W", "--json"]).await.json();
    assert_eq!(made["agentId"], "work-bot");
    std::fs::write(place.work().join("me.md"), "I am Ada.\n").unwrap();
    let written = place.run(&["agents", "file", "work-bot", "USER.md", "--from", "me.md"]).await.out;
    assert!(written.ends_with("agents/work-bot/workspace/USER.md is written\n"), "{written}");
    let refused = place.run(&["agents", "file", "work-bot", "../USER.md"]).await.failed(1);
    assert!(refused.contains("unsupported file \"../USER.md\""), "{refused}");
    assert!(place.run(&["groups"]).await.out.contains("leanclaw groups add CHAT FOLDER"));
    let added = place.run(&["groups", "add", "tg:1", "family", "--agent", "work-bot", "--main"]).await.out;
    assert_eq!(added, "tg:1 is registered\n");
    let refused = place.run(&["groups", "add", "tg:2", "family"]).await.failed(1);
    assert!(refused.contains("folder \"family\" belongs to group \"tg:1\""), "{refused}");
    program.stop().await;

    let program = place.start().await;
    let agents = place.run(&["agents"]).await.out;
    assert!(agents.contains("work-bot") && agents.contains("Work Bot"), "{agents}");
    assert_eq!(place.run(&["agents", "file", "work-bot", "USER.md"]).await.out, "I am Ada.\n");
    let groups = place.run(&["groups", "--json"]).await.json();
    assert_eq!((&groups[0]["agentId"], &groups[0]["isMain"]), (&json!("work-bot"), &json!(true)), "{groups}");
    assert_eq!(place.run(&["agents", "set", "work-bot", "--name", "Desk"]).await.out, "work-bot is changed\n");
    assert_eq!(place.run(&["groups", "remove", "tg:1"]).await.out, "tg:1 is removed\n");
    assert_eq!(place.run(&["agents", "delete", "work-bot"]).await.out, "work-bot is deleted\n");
    let audit = place.run(&["audit", "tail", "--json"]).await.out;
    for kind in ["agent-changed", "group-changed"] {
        assert!(audit.contains(kind), "{kind}: {audit}");
    }
    program.stop().await;
}
