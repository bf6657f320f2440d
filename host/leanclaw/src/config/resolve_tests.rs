use std::collections::BTreeMap;

use super::super::sources::Flags;
use super::*;

/// Sources with nothing in them but a home directory.
fn empty() -> Sources {
    Sources::of_environment(BTreeMap::new())
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn text(text: &str) -> FileText {
    FileText::Text { text: text.to_owned(), others_can_read: false }
}

fn source_of(resolution: &Resolution, variable: &Variable) -> String {
    let effective = resolution.effective.iter().find(|effective| effective.variable.name == variable.name).unwrap();
    effective.source.to_string()
}

fn messages(error: &ConfigError) -> Vec<String> {
    error.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn each_source_gives_way_to_the_one_above_it() {
    let all = Sources {
        flags: Flags { port: Some("1".into()), ..Flags::default() },
        environment: environment(&[("LEANCLAW_GATEWAY_PORT", "2")]),
        dotenv: (".env".into(), text("# port\nLEANCLAW_GATEWAY_PORT=3\n")),
        config_file: ("/c/config.json".into(), text("{gateway: {port: 4}}")),
        ..empty()
    };
    let port_and_source = |sources: &Sources| {
        let resolution = resolve(sources).unwrap();
        (resolution.config.gateway.port, source_of(&resolution, &variables::GATEWAY_PORT))
    };
    let mut sources = all;
    assert_eq!(port_and_source(&sources), (1, "--port".to_owned()));
    sources.flags.port = None;
    assert_eq!(port_and_source(&sources), (2, "environment".to_owned()));
    sources.environment = environment(&[("LEANCLAW_GATEWAY_PORT", "")]);
    assert_eq!(port_and_source(&sources), (3, ".env:2".to_owned()), "an empty variable counts as not set");
    sources.dotenv.1 = text("LEANCLAW_GATEWAY_PORT=\n");
    assert_eq!(port_and_source(&sources), (4, "/c/config.json: gateway.port".to_owned()));
    sources.config_file.1 = FileText::Missing;
    assert_eq!(port_and_source(&sources), (18789, "default".to_owned()));
}

#[test]
fn the_defaults() {
    let resolution = resolve(&empty()).unwrap();
    let config = &resolution.config;
    assert_eq!(config.gateway.listen_address().to_string(), "127.0.0.1:18789");
    assert_eq!(config.gateway.auth, GatewayAuth::Open);
    assert_eq!(config.data_dir.to_str(), Some("/home/u/.local/share/leanclaw"));
    assert_eq!(config.plugins.dir.to_str(), Some("/home/u/.local/share/leanclaw/plugins"));
    assert!(config.plugins.enabled);
    assert!(resolution.warnings.is_empty(), "{:?}", resolution.warnings);
    let shown: Vec<_> = resolution.effective.iter().map(|effective| effective.variable.name).collect();
    let listed: Vec<_> = variables::ALL.iter().map(|variable| variable.name).collect();
    assert_eq!(shown, listed, "every setting is shown once, in the order of the list");
}

#[test]
fn the_plugin_folder_follows_the_data_directory_unless_it_is_set() {
    let mut sources = empty();
    sources.environment = environment(&[("LEANCLAW_DATA_DIR", "data")]);
    assert_eq!(resolve(&sources).unwrap().config.plugins.dir.to_str(), Some("/work/data/plugins"));
    sources.config_file = ("/c/config.json".into(), text("{plugins: {load: {paths: ['./mine']}}}"));
    assert_eq!(resolve(&sources).unwrap().config.plugins.dir.to_str(), Some("/c/mine"));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut sources = empty();
    sources.flags.port = Some("99999".into());
    sources.environment =
        environment(&[("LOG_LEVEL", "loud"), ("LEANCLAW_MAX_INSTANCES", "0"), ("LEANCLAW_AUDIT_MAX_ROWS", "999")]);
    sources.dotenv.1 = text("LEANCLAW_WASM_POOLING=maybe\n");
    sources.config_file.1 = text("{gateway: {bind: 'tailnet'}, plugins: {allow: 'x'}}");
    let error = resolve(&sources).unwrap_err();
    let shown = messages(&error).join("\n");
    assert_eq!(error.problems.len(), 7, "{shown}");
    for part in [
        "LEANCLAW_GATEWAY_PORT is `99999` (--port); expected a port",
        "LOG_LEVEL is `loud` (environment); expected `trace`",
        "LEANCLAW_MAX_INSTANCES is `0` (environment); expected a whole number from 1",
        "LEANCLAW_AUDIT_MAX_ROWS is `999` (environment); expected a whole number from 1000",
        "LEANCLAW_WASM_POOLING is `maybe` (.env:1); expected `auto` or `off`",
        "LEANCLAW_GATEWAY_HOST is `tailnet` (/home/u/.config/leanclaw/config.json: gateway.bind); expected an IP",
        "plugins.allow is `x` (/home/u/.config/leanclaw/config.json: plugins.allow)",
    ] {
        assert!(shown.contains(part), "{part}\n--\n{shown}");
    }
    assert!(!error.hints().is_empty());
}

#[test]
fn a_bad_secret_is_not_shown() {
    let mut sources = empty();
    sources.environment = environment(&[("LEANCLAW_GATEWAY_API_KEY", "hunter2 with spaces")]);
    let shown = resolve(&sources).unwrap_err().to_string();
    assert!(shown.contains("LEANCLAW_GATEWAY_API_KEY is `[redacted]` (environment)"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_good_secret_is_used_and_not_shown() {
    let mut sources = empty();
    sources.environment = environment(&[("LEANCLAW_GATEWAY_API_KEY", "hunter2")]);
    let resolution = resolve(&sources).unwrap();
    assert_eq!(resolution.config.gateway.credential().map(|token| token.expose()), Some("hunter2"));
    let shown: Vec<_> = resolution.effective.iter().map(|value| value.to_json().to_string()).collect();
    assert!(shown.iter().any(|value| value.contains("[redacted]")), "{shown:?}");
    assert!(!shown.join("").contains("hunter2"), "{shown:?}");
    assert!(!format!("{:?}", resolution.config).contains("hunter2"));
}

#[test]
fn a_password_is_one_of_the_ways_to_prove_oneself() {
    let auth = |pairs: &[(&str, &str)]| {
        let sources = Sources { environment: environment(pairs), ..empty() };
        resolve(&sources).map(|resolution| (resolution.config.gateway.auth, resolution.warnings))
    };
    let (mode, warnings) = auth(&[("LEANCLAW_GATEWAY_PASSWORD", "sesame")]).unwrap();
    assert_eq!(mode, GatewayAuth::Password(Secret::new("sesame")));
    assert!(warnings.is_empty());
    let both = [("LEANCLAW_GATEWAY_PASSWORD", "sesame"), ("LEANCLAW_GATEWAY_API_KEY", "t")];
    let (mode, warnings) = auth(&both).unwrap();
    assert_eq!(mode, GatewayAuth::Token(Secret::new("t")));
    assert!(warnings[0].contains("LEANCLAW_GATEWAY_PASSWORD is not asked for"), "{warnings:?}");
    let missing = auth(&[("LEANCLAW_GATEWAY_AUTH", "password"), ("LEANCLAW_GATEWAY_API_KEY", "t")]).unwrap_err();
    assert!(messages(&missing)[0].contains("set LEANCLAW_GATEWAY_PASSWORD"), "{missing}");
}

#[test]
fn an_open_gateway_stays_on_a_loopback_address() {
    let mut sources = empty();
    sources.environment = environment(&[("LEANCLAW_GATEWAY_HOST", "lan")]);
    let shown = resolve(&sources).unwrap_err().to_string();
    assert!(shown.contains("0.0.0.0") && shown.contains("LEANCLAW_GATEWAY_API_KEY"), "{shown}");
    sources.environment.insert("LEANCLAW_GATEWAY_API_KEY".into(), "s3cret".into());
    assert_eq!(resolve(&sources).unwrap().config.gateway.host.to_string(), "0.0.0.0");
    sources.environment.insert("LEANCLAW_GATEWAY_AUTH".into(), "none".into());
    assert!(resolve(&sources).is_err(), "`none` opens the gateway although there is a key");
    sources.environment.insert("LEANCLAW_GATEWAY_HOST".into(), "::1".into());
    let resolution = resolve(&sources).unwrap();
    assert_eq!(resolution.config.gateway.auth, GatewayAuth::Open);
    assert!(resolution.warnings[0].contains("is not asked for"), "{:?}", resolution.warnings);
}

#[test]
fn a_token_that_is_asked_for_must_be_there() {
    let mut sources = empty();
    sources.config_file.1 = text("{gateway: {auth: {mode: 'token'}}}");
    assert!(resolve(&sources).unwrap_err().to_string().contains("there is no token"));
    sources.config_file.1 = text("{gateway: {auth: {mode: 'trusted-proxy'}}}");
    let shown = resolve(&sources).unwrap_err().to_string();
    assert!(shown.contains("LEANCLAW_GATEWAY_AUTH is `trusted-proxy`"), "{shown}");
}

#[test]
fn unknown_names_are_warnings_and_name_the_nearest() {
    let mut sources = empty();
    sources.environment = environment(&[
        ("LEANCLAW_GATEWAY_PROT", "1"),
        ("LEANCLAW_GITHUB_TOKEN", "k"),
        ("LEANCLAW_WASM_STD", "/x"),
        ("LEANCLAW_TEST_BINARY", "1"),
        ("LEANCLAW_WASM_STD", "1"),
        ("LEANCLAW_BUILD_CACHE", "1"),
        ("LEANCLAW_BLESS", "1"),
        ("HOME", "/h"),
    ]);
    sources.dotenv.1 = text("LEANCLAW_GATEWAY_HSOT=x\nLOG_LEVLE=debug\nDATABASE_URL=x\nnonsense\nTZ=UTC\nTZ=CET\n");
    let warnings = resolve(&sources).unwrap().warnings;
    let shown = warnings.join("\n");
    assert_eq!(warnings.len(), 6, "{shown}");
    for part in [
        "unknown variable `LEANCLAW_GATEWAY_PROT` is ignored; did you mean `LEANCLAW_GATEWAY_PORT`?",
        "`LEANCLAW_GITHUB_TOKEN` is a variable of the original LeanClaw; this version does not use it",
        ".env:1: unknown variable `LEANCLAW_GATEWAY_HSOT` is ignored; did you mean `LEANCLAW_GATEWAY_HOST`?",
        ".env:2: `LOG_LEVLE` is not a setting; did you mean `LOG_LEVEL`?",
        ".env:4 is ignored",
        ".env:5 is ignored because .env:6 sets TZ again",
    ] {
        assert!(shown.contains(part), "{part}\n--\n{shown}");
    }
}

#[test]
fn files_that_cannot_be_read_stop_the_start_and_missing_ones_do_not() {
    let mut sources = empty();
    sources.dotenv.1 = FileText::Unreadable("denied".into());
    sources.config_file.1 = text("{\n  gateway: {port: }\n}");
    let error = resolve(&sources).unwrap_err();
    let shown = messages(&error);
    assert_eq!(shown[0], ".env cannot be read: denied");
    assert!(shown[1].starts_with("/home/u/.config/leanclaw/config.json:2:19 is not valid JSON5"), "{shown:?}");
    let mut sources = empty();
    sources.flags.config = Some("nowhere.json".into());
    assert!(resolve(&sources).unwrap_err().to_string().contains("there is no such file"));
}

#[test]
fn a_secret_in_a_file_that_others_can_read_is_worth_a_warning() {
    let mut sources = empty();
    for (others_can_read, warnings) in [(true, 1), (false, 0)] {
        let text = "LEANCLAW_GATEWAY_API_KEY=s3cret".to_owned();
        sources.dotenv.1 = FileText::Text { text, others_can_read };
        assert_eq!(resolve(&sources).unwrap().warnings.len(), warnings);
    }
    sources.dotenv.1 = FileText::Text { text: "TZ=UTC".to_owned(), others_can_read: true };
    assert!(resolve(&sources).unwrap().warnings.is_empty());
}

#[test]
fn without_a_home_a_data_directory_must_be_named() {
    let mut sources = empty();
    sources.places.home = None;
    sources.places.data_home = None;
    assert!(resolve(&sources).unwrap_err().to_string().contains("LEANCLAW_DATA_DIR"));
    sources.environment = environment(&[("LEANCLAW_DATA_DIR", "/d")]);
    assert_eq!(resolve(&sources).unwrap().config.data_dir.to_str(), Some("/d"));
}

#[test]
fn the_plugin_section_reaches_the_configuration() {
    let mut sources = empty();
    sources.config_file.1 = text("{plugins: {deny: ['bad'], entries: {notes: {config: {max: 3}}}}}");
    let config = resolve(&sources).unwrap().config;
    assert!(config.plugins.refusal(&"bad".parse().unwrap()).is_some());
    assert_eq!(config.plugins.settings(&"notes".parse().unwrap())["max"], 3);
}
