//! Load, grant, call, replace, remove.

use std::sync::Arc;

use leanclaw_test_guests as guests;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use super::support::{Bench, caller, manifest, poll_once, settings, with};
use crate::Recycling;

fn answers(text: &str) -> Vec<u8> {
    guests::answers(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_called_before_an_admin_approves_it() {
    let bench = Bench::new().await;
    bench.drop_in(&manifest("echo"), &guests::echo().unwrap());
    let info = bench.until("echo", |info| info.state == PluginState::NeedsGrant).await;
    assert!(info.reason.contains("leanclaw plugin grant echo --all"), "{}", info.reason);
    assert_eq!(bench.run("echo", "{}").await.unwrap_err().code, "not-found");

    let info = bench.grant("echo").await;
    assert_eq!((info.state, info.methods.as_slice()), (PluginState::Ready, ["echo.run".to_owned()].as_slice()));
    assert_eq!(bench.run("echo", r#"{"a":1}"#).await.unwrap(), r#"{"a":1}"#);

    let all = GrantChange { all: true, items: vec![] };
    let info = bench.plugins.revoke(&caller(), &"echo".parse().unwrap(), &all).await.unwrap().unwrap();
    assert_eq!(info.state, PluginState::NeedsGrant);
    assert_eq!(bench.run("echo", "{}").await.unwrap_err().code, "not-found");
    let kinds: Vec<_> = bench.memory.audit.lock().unwrap().iter().map(|row| row.event.kind()).collect();
    assert!(kinds.contains(&"plugin-granted") && kinds.contains(&"plugin-revoked"), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_is_swapped_in_and_a_bad_one_leaves_the_old() {
    let bench = Bench::new().await;
    bench.install(&manifest("p"), &answers("1")).await;
    assert_eq!(bench.run("p", "{}").await.unwrap(), "1");

    bench.drop_in(&with(manifest("p"), json!({"version": "2.0.0"})), &answers("2"));
    bench.until("p", |info| info.version == "2.0.0").await;
    assert_eq!(bench.run("p", "{}").await.unwrap(), "2");

    bench.drop_in(&with(manifest("p"), json!({"version": "3.0.0"})), b"\0asm garbage");
    let info = bench.until("p", |info| info.reason.contains("refused")).await;
    assert_eq!((info.state, info.version.as_str()), (PluginState::Ready, "2.0.0"));
    assert_eq!(bench.run("p", "{}").await.unwrap(), "2");

    std::fs::remove_dir_all(bench.folder.path().join("p")).unwrap();
    while bench.plugins.inspect(&"p".parse().unwrap()).is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(bench.run("p", "{}").await.unwrap_err().code, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_asks_for_more_waits_and_keeps_the_old_grant() {
    let bench = Bench::new().await;
    let one = with(manifest("p"), json!({"permissions": {"events": ["a"]}}));
    bench.install(&one, &answers("1")).await;
    let two = with(manifest("p"), json!({"version": "2.0.0", "permissions": {"events": ["a", "b"]}}));
    bench.drop_in(&two, &answers("2"));
    let info = bench.until("p", |info| info.version == "2.0.0").await;
    assert_eq!(info.state, PluginState::NeedsGrant);
    assert!(info.reason.contains("event:b"), "{}", info.reason);
    assert_eq!(info.granted.unwrap().events, ["a"]);
    assert!(bench.run("p", "{}").await.is_err());

    // Naming only a part is a decision too: the rest stays refused.
    let part = GrantChange { all: false, items: vec!["event:a".into()] };
    let info = bench.plugins.grant(&caller(), &"p".parse().unwrap(), &part).await.unwrap();
    assert_eq!((info.state, info.missing.as_slice()), (PluginState::Ready, ["event:b".to_owned()].as_slice()));
    assert_eq!(bench.run("p", "{}").await.unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_plugins_with_one_id_do_not_displace_each_other() {
    let bench = Bench::new().await;
    bench.install(&manifest("p"), &answers("1")).await;
    let other = bench.folder.path().join("zz");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("plugin.wasm"), answers("2")).unwrap();
    std::fs::write(other.join("leanclaw.plugin.json"), manifest("p").to_string()).unwrap();
    let problem = bench.until_problem("is taken by").await;
    assert!(problem.contains("zz"), "{problem}");
    assert_eq!(bench.run("p", "{}").await.unwrap(), "1");

    std::fs::remove_dir_all(bench.folder.path().join("p")).unwrap();
    bench.until("p", |info| info.path.ends_with("zz") && info.state == PluginState::Ready).await;
    assert_eq!(bench.run("p", "{}").await.unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_main_is_metadata() {
    let bench = Bench::new().await;
    let place = bench.folder.path().join("js");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(
        place.join("openclaw.plugin.json"),
        r#"{"id":"js","main":"index.js","configSchema":{"type":"object"}}"#,
    )
    .unwrap();
    let info = bench.until("js", |info| info.state == PluginState::Disabled).await;
    assert!(info.reason.contains("index.js") && info.reason.contains("component"), "{}", info.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_component_carries_its_manifest() {
    let bench = Bench::new().await;
    let bare = crate::embed_manifest(&answers("7"), r#"{"id":"bare"}"#).unwrap();
    std::fs::write(bench.folder.path().join("any-name.wasm"), bare).unwrap();
    bench.until("bare", |info| info.state == PluginState::NeedsGrant).await;
    bench.grant("bare").await;
    assert_eq!(bench.run("bare", "{}").await.unwrap(), "7");
    std::fs::write(bench.folder.path().join("none.wasm"), answers("8")).unwrap();
    bench.until_problem("carries no manifest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_against_the_schema() {
    let bench = Bench::new().await;
    bench.memory.settings.lock().unwrap().insert("p".into(), json!({"size": "large"}));
    let schema = json!({"configSchema": {"type": "object", "properties": {"size": {"type": "integer"}}}});
    bench.drop_in(&with(manifest("p"), schema), &answers("1"));
    bench.until("p", |info| info.state == PluginState::NeedsGrant).await;
    let info = bench.grant("p").await;
    assert_eq!(info.state, PluginState::Faulted);
    assert!(info.reason.contains("/size") && info.reason.contains("plugins.entries.p.config"), "{}", info.reason);
    bench.memory.settings.lock().unwrap().insert("p".into(), json!({"size": 3}));
    bench.plugins.reload(&caller(), Some(&"p".parse().unwrap())).await.unwrap();
    bench.until("p", |info| info.state == PluginState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_over_once_nothing_is_being_loaded() {
    let (memory, folder) = (Arc::default(), Arc::new(tempfile::tempdir().unwrap()));
    let bench = Bench::not_started(memory, folder, settings(), Recycling::default());
    bench.drop_in(&manifest("early"), &guests::echo().unwrap());
    let gate = bench.plugins.inner.gate(&"early".parse().unwrap());
    let held = gate.lock().await;
    bench.start().await;
    let mut settled = Box::pin(bench.plugins.settled());
    assert!(poll_once(&mut settled).await.is_pending());
    drop(held);
    settled.await;
    assert_eq!(bench.inspect("early").state, PluginState::NeedsGrant);
    bench.plugins.settled().await;
}
