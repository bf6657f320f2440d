//! What a user reads when a plugin is not let out, and that doing what it says lets it out.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Client, Place, Rss, text};

/// The feed reader, allowed to ask for this server at a private address.
fn ask_for_private(place: &Place, server: &str) {
    let file = place.plugins().join("feed-reader/leanclaw.plugin.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    manifest["permissions"]["privateHttp"] = json!([server]);
    fs::write(file, manifest.to_string()).unwrap();
}

async fn read(client: &mut Client, server: &str) -> Value {
    client.ok("tools.invoke", json!({"name": "read_feed", "args": {"url": format!("{server}/feed.xml")}})).await
}

#[tokio::test]
async fn a_private_address_is_refused_until_it_is_granted_and_again_after_it_is_revoked() {
    let feed = Rss::start().await;
    let server = format!("http://{}", feed.address);
    let item = format!("private-http:{server}");
    let place = Place::with_examples(&["feed-reader"]).await;
    ask_for_private(&place, &server);
    let program = place.start().await;
    let mut client = program.client().await;
    let asking = program.plugin("feed-reader").await;
    assert_eq!(
        asking["reason"],
        format!(
            "no admin has approved it yet; it asks for: http:https://*, {item}\nhint: leanclaw plugin grant feed-reader --all"
        )
    );
    // All but the private address.
    place.run(&["plugin", "grant", "feed-reader", "--http", "https://*", "--yes"]).await.ok();
    let refused = read(&mut client, &server).await;
    // The very command that lets it through.
    let command = format!("leanclaw plugin grant feed-reader --private-http {server}");
    assert_eq!(
        refused["error"],
        json!({
            "code": "denied",
            "message": "The request is not allowed: ask for its host in `permissions.http` of the manifest and have it granted.",
            "details": {"code": "denied", "hints": [command]},
        })
    );
    place.run(&["plugin", "grant", "feed-reader", "--private-http", &server, "--yes"]).await.ok();
    let read_now = read(&mut client, &server).await;
    assert_eq!(read_now["output"]["details"]["items"][0]["title"], "First", "{read_now}");
    place.run(&["plugin", "revoke", "feed-reader", "--private-http", &server]).await.ok();
    assert_eq!(read(&mut client, &server).await["error"]["code"], "denied");
    let denied = place.run(&["audit", "tail", "--kind", "egress-denied", "--json"]).await.json();
    assert_eq!(denied.as_array().map(Vec::len), Some(2), "{denied}");
    assert_eq!((&denied[0]["plugin"], &denied[0]["host"]), (&json!("feed-reader"), &json!(server)), "{denied}");
    let logs = place.run(&["plugin", "logs", "feed-reader"]).await.ok();
    assert!(logs.contains(&command), "{logs}");
    program.stop().await;
}

/// A host that the manifest does not name cannot be granted; the advice begins where the change has to begin.
#[tokio::test]
async fn a_host_that_is_not_asked_for_needs_a_line_in_the_manifest_first() {
    let feed = Rss::start().await;
    let server = format!("http://{}", feed.address);
    let place = Place::with_examples(&["feed-reader"]).await;
    let program = place.start().await;
    program.grant_all("feed-reader").await;
    let mut client = program.client().await;
    let refused = read(&mut client, &server).await;
    assert_eq!(
        refused["error"]["details"]["hints"],
        json!([
            format!("manifest, permissions.privateHttp: [\"{server}\"]"),
            format!("leanclaw plugin grant feed-reader --private-http {server}"),
        ])
    );
    let error = place.run(&["plugin", "grant", "feed-reader", "--private-http", &server, "--yes"]).await.failed(1);
    assert!(error.contains(&format!("does not ask for `private-http:{server}`")), "{error}");
    ask_for_private(&place, &server);
    program.plugin_until("feed-reader", "it asks for more", |found| found["state"] == "needs-grant").await;
    place.run(&["plugin", "grant", "feed-reader", "--private-http", &server, "--yes"]).await.ok();
    assert_eq!(read(&mut client, &server).await["ok"], true);
    program.stop().await;
}

/// No grant opens what would give away the machine's own keys.
#[tokio::test]
async fn metadata_addresses_stay_closed_whatever_is_granted() {
    let server = "http://169.254.169.254";
    let place = Place::with_examples(&["feed-reader"]).await;
    ask_for_private(&place, server);
    let program = place.start().await;
    assert_eq!(program.grant_all("feed-reader").await["state"], "ready");
    let refused = read(&mut program.client().await, server).await;
    assert_eq!(refused["error"]["code"], "denied", "{refused}");
    assert!(!text(&refused["error"]["message"]).contains("plugin grant"), "no command would help: {refused}");
    program.stop().await;
}
