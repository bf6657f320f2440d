//! Where settings come from, and what becomes of mistakes.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, env, run, text};

fn setting<'a>(config: &'a Value, name: &str) -> (&'a Value, &'a Value) {
    let settings = config["settings"].as_array().unwrap();
    let found = settings.iter().find(|setting| setting["name"] == name).unwrap();
    (&found["value"], &found["source"])
}

/// The same setting in every place; one place after the other falls silent.
#[tokio::test]
async fn flags_win_over_the_environment_over_dotenv_over_the_file_over_the_default() {
    let place = Place::empty();
    place.write_config("// mine\n{gateway: {port: 4000}, logging: {level: 'debug'},}");
    place.write_dotenv("LEANCLAW_GATEWAY_PORT=3000\n");
    let port = async |arguments: &[&str], environment: &str| {
        let mut command = place.bare(arguments);
        command.args(["config", "--json"]).env("LEANCLAW_GATEWAY_PORT", environment);
        let config = run(command).await.json();
        let (value, source) = setting(&config, "LEANCLAW_GATEWAY_PORT");
        format!("{} {}", text(value), text(&source["kind"]))
    };
    assert_eq!(port(&["--port", "1000"], "2000").await, "1000 flag");
    assert_eq!(port(&[], "2000").await, "2000 environment");
    assert_eq!(port(&[], "").await, "3000 .env", "an empty variable is not set");
    place.write_dotenv("");
    assert_eq!(port(&[], "").await, "4000 file");
    place.write_config("{gateway: {prot: 4000}}");
    assert_eq!(port(&[], "").await, "18789 default");
}

#[tokio::test]
async fn the_table_shows_value_and_source() {
    let place = Place::empty();
    place.write_config("{gateway: {host: 'localhost'}}");
    let mut command = place.bare(&["config", "--port", "7"]);
    command.env("TZ", "UTC").env("LEANCLAW_DATA_DIR", "/var/lib/lean").env("LOG_LEVEL", "warn");
    let shown = run(command).await.ok();
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        vec!["SETTING", "VALUE", "SOURCE"],
        vec!["LEANCLAW_GATEWAY_PORT", "7", "--port"],
        vec!["LEANCLAW_GATEWAY_AUTH", "none", "default"],
        vec!["LEANCLAW_GATEWAY_API_KEY", "-", "default"],
        vec!["LEANCLAW_DATA_DIR", "/var/lib/lean", "environment"],
        vec!["LEANCLAW_PLUGIN_DIR", "/var/lib/lean/plugins", "default"],
        vec!["LOG_LEVEL", "warn", "environment"],
        vec!["TZ", "UTC", "environment"],
    ] {
        assert!(rows.contains(&row), "{row:?}:\n{shown}");
    }
    let file = format!("{}:", place.config_file().display());
    assert!(rows.contains(&vec!["LEANCLAW_GATEWAY_HOST", "127.0.0.1", &file, "gateway.host"]), "{shown}");
}

/// Every wrong value is named at once, with what was given and what is expected; nothing is started.
#[tokio::test]
async fn wrong_values_stop_the_start_and_are_all_named() {
    let place = Place::empty();
    place.write_config("{wasm: {maxInstances: 0}}");
    place.write_dotenv("LEANCLAW_WASM_POOLING=maybe\n");
    let error = place
        .refused_start(|command| {
            command.env("LEANCLAW_GATEWAY_PORT", "65536").env("LOG_LEVEL", "loud").env("TZ", "Mars/Olympus");
        })
        .await;
    assert_eq!(
        error,
        format!(
            "error: the configuration is not valid, 5 problems:\n  \
             LEANCLAW_GATEWAY_PORT is `65536` (environment); expected a port from 0 to 65535 (0 takes any free one)\n  \
             LEANCLAW_WASM_POOLING is `maybe` (.env:1); expected `auto` or `off`\n  \
             LEANCLAW_MAX_INSTANCES is `0` ({}: wasm.maxInstances); expected a whole number from 1 to 100000\n  \
             LOG_LEVEL is `loud` (environment); expected `trace`, `debug`, `info`, `warn`, `error`, `fatal` (same as \
             `error`) or `silent`\n  \
             TZ is `Mars/Olympus` (environment); expected a time zone such as `Europe/Berlin`, `UTC` or \
             `CET-1CEST,M3.5.0,M10.5.0/3`\n\
             hint: `leanclaw config variables` lists every setting, what it expects and its default\n",
            place.config_file().display()
        )
    );
    assert_eq!(fs::read_dir(place.data()).unwrap().count(), 0, "nothing was made");
    let checked = place.run_with(&["config", "check"], env("LOG_LEVEL", "loud")).await.failed(1);
    assert!(checked.contains("LOG_LEVEL is `loud`"), "{checked}");
}

#[tokio::test]
async fn a_broken_file_is_named_with_its_place() {
    let place = Place::empty();
    place.write_config("{\n  gateway: {port: 1,\n");
    let error = place.refused_start(|_| {}).await;
    assert!(error.contains(&format!("{}:2:12 is not valid JSON5: ", place.config_file().display())), "{error}");
    fs::write(place.config_file(), b"{\xff}").unwrap();
    assert!(place.refused_start(|_| {}).await.contains("cannot be read"));
    let missing = place.run(&["--config", "no-such-file", "config"]).await.failed(1);
    assert!(missing.contains("no-such-file") && missing.contains("there is no such file"), "{missing}");
}

/// A misspelt name costs nobody the rest of the settings.
#[tokio::test]
async fn unknown_names_warn_with_the_nearest_one() {
    let place = Place::empty();
    place.write_config("{gateway: {port: 0, tokn: 'x'}, provider: {default: 'anthropic'}, tools: {}}");
    place.write_dotenv("LOG_LEVLE=debug\nOTHER=1\n");
    let program = place
        .start_with(|command| {
            command
                .env_remove("LEANCLAW_GATEWAY_PORT")
                .env("LEANCLAW_GATEWAY_PROT", "1")
                .env("LEANCLAW_ASSISTANT_NAME", "Ada");
        })
        .await;
    let log = program.log();
    let file = place.config_file().display().to_string();
    for warning in [
        "the environment: unknown variable `LEANCLAW_GATEWAY_PROT` is ignored; did you mean `LEANCLAW_GATEWAY_PORT`?",
        "the environment: `LEANCLAW_ASSISTANT_NAME` is a variable of the original LeanClaw; this version does not use it",
        ".env:1: `LOG_LEVLE` is not a setting; did you mean `LOG_LEVEL`?",
        "`gateway.tokn`",
        "`provider.default` is a key of the original LeanClaw",
    ] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(warning)), "{warning}:\n{log}");
    }
    assert!(log.contains(&file) && !log.contains("OTHER"), "{log}");
    program.stop().await;
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    const SECRET: &str = "sw0rdfish-of-the-test";
    let place = Place::empty();
    place.write_config(&format!(
        "{{gateway: {{auth: {{token: '{SECRET}'}}}}, plugins: {{entries: {{demo: {{config: {{apiKey: '{SECRET}'}}}}}}}}}}"
    ));
    for arguments in [&["config"][..], &["config", "--json"], &["config", "check"], &["config", "variables"]] {
        let shown = place.run(arguments).await;
        assert!(!format!("{shown:?}").contains(SECRET), "{arguments:?}");
    }
    let config = place.run(&["config", "--json"]).await.json();
    assert_eq!(setting(&config, "LEANCLAW_GATEWAY_API_KEY").0, "[redacted]");
    assert_eq!(config["plugins"]["entries"]["demo"]["configKeys"], json!(["apiKey"]));
    let program = place.start_with(env("LOG_LEVEL", "trace")).await;
    place.run(&["call", "health"]).await.ok();
    place.run(&["plugin", "list"]).await.ok();
    let wrong = place.run(&["call", "health", "--token", "wr0ng-of-the-test"]).await.failed(1);
    assert!(!wrong.contains("wr0ng") && !wrong.contains(SECRET), "{wrong}");
    program.terminate();
    let (status, log) = program.end().await;
    assert!(status.success());
    assert!(log.contains("TRACE"), "everything is logged");
    let leaks: Vec<&str> = log.lines().filter(|line| line.contains(SECRET) || line.contains("wr0ng")).collect();
    assert!(leaks.is_empty(), "a token is in the log: {leaks:#?}");
    let mut command = place.command(&["start"]);
    command.env("LEANCLAW_GATEWAY_API_KEY", format!("{SECRET} with a space"));
    let refused = run(command).await.failed(1);
    assert!(refused.contains("LEANCLAW_GATEWAY_API_KEY is `[redacted]`") && !refused.contains(SECRET), "{refused}");
}

#[tokio::test]
async fn every_log_line_is_json_when_asked_for() {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start_with(env("LOG_FORMAT", "json")).await;
    program.grant_all("notes").await;
    program.terminate();
    let (_, log) = program.end().await;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 3);
    for line in lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let silent = place.start_with(env("LOG_LEVEL", "silent")).await;
    silent.terminate();
    assert_eq!(silent.end().await.1, "");
}
