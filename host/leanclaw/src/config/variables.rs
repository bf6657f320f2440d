//! The one list of settings: every variable, what it expects, its default, its keys in the configuration file.
//!
//! `leanclaw config variables` prints it, the resolver reads through it, and error messages quote it. A variable is
//! listed here only when this version of the program reads it, or its build and tests do ([`OUTSIDE`]); names that the
//! original LeanClaw or OpenClaw know and this version does not use are listed apart, in `foreign.rs`.

pub use super::outside::{OUTSIDE, Outside};

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment and in `.env`.
    pub name: &'static str,
    /// What a value must look like, worded to follow "expected".
    pub expects: &'static str,
    /// The value used when none is given; empty when there is none or when it is computed ([`Variable::default_note`]).
    pub default: &'static str,
    /// How a computed default comes about; empty when [`Variable::default`] says it all.
    pub default_note: &'static str,
    /// Keys in the configuration file, the first one that is set wins: OpenClaw's first, then the original LeanClaw's.
    pub keys: &'static [&'static str],
    /// The command-line flag, with its dashes.
    pub flag: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

/// The most useful starting point for the entries below.
const PLAIN: Variable =
    Variable { name: "", expects: "", default: "", default_note: "", keys: &[], flag: None, doc: "", secret: false };

/// Address the gateway listens on.
pub const GATEWAY_HOST: Variable = Variable {
    name: "LEANCLAW_GATEWAY_HOST",
    expects: "an IP address, `localhost`, `loopback` (127.0.0.1) or `lan` (0.0.0.0)",
    default: "127.0.0.1",
    keys: &["gateway.bind", "gateway.customBindHost", "gateway.host"],
    flag: Some("--host"),
    doc: "Address the gateway listens on. Any other address than a loopback one needs LEANCLAW_GATEWAY_API_KEY.",
    ..PLAIN
};

/// Port the gateway listens on.
pub const GATEWAY_PORT: Variable = Variable {
    name: "LEANCLAW_GATEWAY_PORT",
    expects: "a port from 0 to 65535 (0 takes any free one)",
    default: "18789",
    keys: &["gateway.port"],
    flag: Some("--port"),
    doc: "TCP port of the gateway, for WebSocket and HTTP.",
    ..PLAIN
};

/// How clients prove who they are.
pub const GATEWAY_AUTH: Variable = Variable {
    name: "LEANCLAW_GATEWAY_AUTH",
    expects: "`token`, `password` or `none`",
    default_note: "`token` when LEANCLAW_GATEWAY_API_KEY is set, else `password` when LEANCLAW_GATEWAY_PASSWORD is, else \
                   `none`",
    keys: &["gateway.auth.mode"],
    doc: "How clients prove themselves: `token` asks for LEANCLAW_GATEWAY_API_KEY, `password` for \
          LEANCLAW_GATEWAY_PASSWORD, `none` lets every program in that can reach a loopback address.",
    ..PLAIN
};

/// The secret clients present.
pub const GATEWAY_API_KEY: Variable = Variable {
    name: "LEANCLAW_GATEWAY_API_KEY",
    expects: "a text of 1 to 512 visible ASCII characters",
    keys: &["gateway.auth.token", "gateway.apiKey"],
    doc: "The secret that gateway clients present. The command line uses it too when it calls the gateway.",
    secret: true,
    ..PLAIN
};

/// The password clients present.
pub const GATEWAY_PASSWORD: Variable = Variable {
    name: "LEANCLAW_GATEWAY_PASSWORD",
    expects: "a text of 1 to 512 visible ASCII characters",
    keys: &["gateway.auth.password"],
    doc: "The password that gateway clients present where LEANCLAW_GATEWAY_AUTH is `password`.",
    secret: true,
    ..PLAIN
};

/// Proxies in front of the gateway.
pub const GATEWAY_TRUSTED_PROXIES: Variable = Variable {
    name: "LEANCLAW_GATEWAY_TRUSTED_PROXIES",
    expects: "IP addresses, separated by commas",
    default_note: "none",
    keys: &["gateway.trustedProxies"],
    doc: "Proxies whose `X-Forwarded-For` header is believed.",
    ..PLAIN
};

/// Web pages that may connect.
pub const GATEWAY_ALLOWED_ORIGINS: Variable = Variable {
    name: "LEANCLAW_GATEWAY_ALLOWED_ORIGINS",
    expects: "origins such as `https://ui.example.com`, or `*`, separated by commas",
    default_note: "none",
    keys: &["gateway.controlUi.allowedOrigins"],
    doc: "Origins of the web pages that may connect; `*` lets every page in.",
    ..PLAIN
};

/// Folder of the Control UI.
pub const CONTROL_UI_ROOT: Variable = Variable {
    name: "LEANCLAW_CONTROL_UI_ROOT",
    expects: "the path of one folder",
    default_note: "none: no page is served",
    keys: &["gateway.controlUi.root"],
    doc: "Folder of an installed OpenClaw Control UI (the one with `index.html`), which the gateway then serves.",
    ..PLAIN
};

/// Path of the Control UI.
pub const CONTROL_UI_BASE_PATH: Variable = Variable {
    name: "LEANCLAW_CONTROL_UI_BASE_PATH",
    expects: "a path such as `/claw`: letters, digits, `-`, `_` and `/`",
    default_note: "none: the page is at `/`",
    keys: &["gateway.controlUi.basePath"],
    doc: "Path below which the Control UI is served.",
    ..PLAIN
};

/// Folder of the plugins.
pub const PLUGIN_DIR: Variable = Variable {
    name: "LEANCLAW_PLUGIN_DIR",
    expects: "the path of one folder",
    default_note: "the folder `plugins` in the data directory",
    keys: &["plugins.load.paths"],
    flag: Some("--plugin-dir"),
    doc: "Folder whose plugins are loaded; what is dropped into it is picked up while the program runs.",
    ..PLAIN
};

/// Directory of everything the program stores.
pub const DATA_DIR: Variable = Variable {
    name: "LEANCLAW_DATA_DIR",
    expects: "the path of a folder",
    default_note: "`leanclaw` in the platform's data directory",
    keys: &["data.dir"],
    flag: Some("--data-dir"),
    doc: "Directory of the databases, the compiled plugins and the lock; created readable by its owner only.",
    ..PLAIN
};

/// Whether guest memory comes from a pool.
pub const WASM_POOLING: Variable = Variable {
    name: "LEANCLAW_WASM_POOLING",
    expects: "`auto` or `off`",
    default: "auto",
    keys: &["wasm.pooling"],
    doc: "`auto` gives plugins memory from a pool where the system has the address space for it, `off` never does.",
    ..PLAIN
};

/// How many plugin instances may live at once.
pub const MAX_INSTANCES: Variable = Variable {
    name: "LEANCLAW_MAX_INSTANCES",
    expects: "a whole number from 1 to 100000",
    default: "1000",
    keys: &["wasm.maxInstances"],
    doc: "The most plugin instances that live at the same time; calls beyond it wait.",
    ..PLAIN
};

/// Key for Anthropic's models.
pub const ANTHROPIC_API_KEY: Variable = Variable {
    name: "LEANCLAW_ANTHROPIC_API_KEY",
    expects: "a text of 1 to 512 visible ASCII characters",
    keys: &["models.providers.anthropic.apiKey", "provider.anthropicApiKey"],
    doc: "Key for Anthropic's models. It stays in this program: agents never see it.",
    secret: true,
    ..PLAIN
};

/// Where Anthropic's models are asked.
pub const ANTHROPIC_BASE_URL: Variable = Variable {
    name: "LEANCLAW_ANTHROPIC_BASE_URL",
    expects: "an address such as `https://models.example.com`",
    default: "https://api.anthropic.com",
    keys: &["models.providers.anthropic.baseUrl"],
    doc: "Where Anthropic's models are asked; a path before `/v1` is kept.",
    ..PLAIN
};

/// A server that speaks OpenAI's format.
pub const LOCAL_LLM_BASE_URL: Variable = Variable {
    name: "LEANCLAW_LOCAL_LLM_BASE_URL",
    expects: "an address such as `http://127.0.0.1:11434`",
    default_note: "none: no such server is asked",
    keys: &["models.providers.local.baseUrl", "localProvider.baseUrl"],
    doc: "A server that speaks OpenAI's format, on this machine or elsewhere; its models are the provider `local`.",
    ..PLAIN
};

/// Key for that server.
pub const LOCAL_LLM_API_KEY: Variable = Variable {
    name: "LEANCLAW_LOCAL_LLM_API_KEY",
    expects: "a text of 1 to 512 visible ASCII characters",
    keys: &["models.providers.local.apiKey", "localProvider.apiKey"],
    doc: "Key for LEANCLAW_LOCAL_LLM_BASE_URL, where it asks for one.",
    secret: true,
    ..PLAIN
};

/// The model of that server.
pub const LOCAL_LLM_MODEL: Variable = Variable {
    name: "LEANCLAW_LOCAL_LLM_MODEL",
    expects: "the name of a model",
    default_note: "the first that the server lists",
    keys: &["localProvider.model"],
    doc: "The model of LEANCLAW_LOCAL_LLM_BASE_URL that agents use where no other provider and no LEANCLAW_MODEL is set.",
    ..PLAIN
};

/// The model that agents use.
pub const MODEL: Variable = Variable {
    name: "LEANCLAW_MODEL",
    expects: "the name of a model, such as `anthropic/claude-sonnet-5-5`",
    default_note: "the first that the provider lists",
    keys: &["agents.defaults.model.primary"],
    doc: "The model that agents use where their session names none.",
    ..PLAIN
};

/// Where agents run.
pub const SANDBOX: Variable = Variable {
    name: "LEANCLAW_SANDBOX",
    expects: "`auto` or `wasm`",
    default: "auto",
    keys: &["sandbox.backend"],
    doc: "Where agents run: `wasm` is the embedded WASI sandbox, without network and without a shell; `auto` takes what there is.",
    ..PLAIN
};

/// How many agents run at once.
pub const MAX_CONCURRENT: Variable = Variable {
    name: "LEANCLAW_MAX_CONCURRENT_CONTAINERS",
    expects: "a whole number from 1 to 1000",
    default: "5",
    keys: &["agents.defaults.maxConcurrent", "container.maxConcurrent"],
    doc: "Runs of agents that go on at the same time; others wait for their turn. It has to leave plugins some of \
          LEANCLAW_MAX_INSTANCES.",
    ..PLAIN
};

/// How long a run may take.
pub const RUN_TIMEOUT: Variable = Variable {
    name: "LEANCLAW_CONTAINER_TIMEOUT",
    expects: "milliseconds from 1000 to 86000000",
    default: "1800000",
    keys: &["container.timeout"],
    doc: "How long one run of an agent may take, in milliseconds.",
    ..PLAIN
};

/// How long the audit log may become.
pub const AUDIT_MAX_ROWS: Variable = Variable {
    name: "LEANCLAW_AUDIT_MAX_ROWS",
    expects: "a whole number from 1000 to 1000000000",
    default: "1000000",
    keys: &["audit.maxRows"],
    doc: "Rows of the audit log that are kept; the oldest go first. A million take a few hundred megabytes.",
    ..PLAIN
};

/// Where the programs that make components are.
pub const TOOLS: Variable = Variable {
    name: "LEANCLAW_TOOLS",
    expects: "the path of a folder",
    default_note: "none; the plugin's own `node_modules` and PATH",
    keys: &["build.tools"],
    doc: "Folder with componentize-qjs and componentize-py, for `leanclaw plugin build` and `plugin dev`.",
    ..PLAIN
};

/// The plugin contract that plugins are built against.
pub const WIT: Variable = Variable {
    name: "LEANCLAW_WIT",
    expects: "the path of a folder",
    default_note: "`wit` in the plugin's folder, else the one this program carries",
    keys: &["build.wit"],
    doc: "Folder with the plugin contract, for `leanclaw plugin build` and `plugin dev`.",
    ..PLAIN
};

/// How much is logged.
pub const LOG_LEVEL: Variable = Variable {
    name: "LOG_LEVEL",
    expects: "`trace`, `debug`, `info`, `warn`, `error`, `fatal` (same as `error`) or `silent`",
    default: "info",
    keys: &["logging.level"],
    flag: Some("--log-level"),
    doc: "The least severe messages that are logged.",
    ..PLAIN
};

/// How log lines look.
pub const LOG_FORMAT: Variable = Variable {
    name: "LOG_FORMAT",
    expects: "`pretty` (`compact` is the same) or `json`",
    default: "pretty",
    keys: &["logging.consoleStyle"],
    flag: Some("--log-format"),
    doc: "`pretty` writes lines for people, `json` one JSON object per line. Both go to standard error.",
    ..PLAIN
};

/// The zone in which times are shown.
pub const TIME_ZONE: Variable = Variable {
    name: "TZ",
    expects: "a time zone such as `Europe/Berlin`, `UTC` or `CET-1CEST,M3.5.0,M10.5.0/3`",
    default_note: "the system's zone",
    keys: &["agents.defaults.userTimezone"],
    doc: "Time zone in which logs and tables show times.",
    ..PLAIN
};

/// Every setting, in the order in which they are shown.
pub const ALL: &[&Variable] = &[
    &GATEWAY_HOST,
    &GATEWAY_PORT,
    &GATEWAY_AUTH,
    &GATEWAY_API_KEY,
    &GATEWAY_PASSWORD,
    &GATEWAY_TRUSTED_PROXIES,
    &GATEWAY_ALLOWED_ORIGINS,
    &CONTROL_UI_ROOT,
    &CONTROL_UI_BASE_PATH,
    &PLUGIN_DIR,
    &DATA_DIR,
    &WASM_POOLING,
    &MAX_INSTANCES,
    &ANTHROPIC_API_KEY,
    &ANTHROPIC_BASE_URL,
    &LOCAL_LLM_BASE_URL,
    &LOCAL_LLM_API_KEY,
    &LOCAL_LLM_MODEL,
    &MODEL,
    &SANDBOX,
    &MAX_CONCURRENT,
    &RUN_TIMEOUT,
    &AUDIT_MAX_ROWS,
    &TOOLS,
    &WIT,
    &LOG_LEVEL,
    &LOG_FORMAT,
    &TIME_ZONE,
];

/// Keys of the configuration file that stand for a list or a table and so have no variable.
pub const FILE_ONLY_KEYS: &[(&str, &str)] = &[
    (
        "gateway.auth.role",
        "What the shared token or password is good for at most: `admin` (default), `user` or `viewer`.",
    ),
    ("gateway.auth.users.<name>.token", "A further token that lets somebody in, besides the shared one."),
    ("gateway.nodes.allowCommands", "Commands that nodes may be asked for beside what their platform allows."),
    ("gateway.nodes.denyCommands", "Commands that nodes are never asked for; wins over everything else."),
    ("hooks.enabled", "`true` lets other programs leave events over HTTP; needs `hooks.token`."),
    ("hooks.token", "What they show, another secret than the gateway's own."),
    ("hooks.path", "Where the hooks are; `/hooks` by default."),
    ("hooks.maxBodyBytes", "Largest body of a hook in bytes; 262144 by default."),
    ("hooks.allowRequestSessionKey", "`true` lets a hook name the session that an agent is to use."),
    (
        "hooks.mappings",
        "Hooks of other names: `[{match: {path, source}, action: \"wake\", wakeMode, textTemplate: \"{{a.b}}\"}]`.",
    ),
    ("gateway.rateLimits.windowMs", "The window calls are counted in: 1000 to 3600000 milliseconds; 60000 by default."),
    ("gateway.rateLimits.perIp", "Calls per window and address: `{read, write, admin, expensive}`; 0 is no limit."),
    ("gateway.rateLimits.perCredential", "The same per device, user and shared credential."),
    ("gateway.rateLimits.loopback", "The same, in place of both, for programs on this machine."),
    (
        "gateway.rateLimits.controlPlane",
        "Calls per window of each of `config.apply`, `config.patch` and the like; 30 by default.",
    ),
    ("gateway.rateLimits.controlPlaneV3", "The same for clients of protocol version 3; 3 by default."),
    ("gateway.auth.users.<name>.role", "What that token is good for at most: `admin`, `user` or `viewer`."),
    ("plugins.enabled", "`false` loads no plugin at all."),
    ("plugins.allow", "Plugin ids; when not empty, no other plugin is loaded."),
    ("plugins.deny", "Plugin ids that are never loaded; wins over everything else."),
    ("plugins.entries.<id>.enabled", "`false` switches one plugin off."),
    ("plugins.entries.<id>.config", "Settings of the plugin, checked against its `configSchema`."),
    (
        "plugins.entries.<id>.accounts.<name>.enabled",
        "`false` stops one account; `default` names the one that is always there. `leanclaw channels stop` writes it.",
    ),
    ("plugins.entries.<id>.accounts.<name>.config", "Settings of one account, laid over the plugin's own."),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that stand in a file's text.
    fn names_in(text: &str) -> Vec<&str> {
        let is_part = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        text.match_indices("LEANCLAW_")
            .filter_map(|(at, _)| text[at..].split(|letter| !is_part(letter)).next())
            .filter(|name| !name.ends_with('_'))
            .collect()
    }

    #[test]
    fn what_the_build_and_the_tests_read_is_listed() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut folders: Vec<_> =
            ["host/xtask/src", "host/types/src", "host/store/src", "tests/it/support", "tests/bench", "tests/clients"]
                .map(|folder| root.join(folder))
                .into();
        let mut files = vec![root.join(".ci/run")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is_source = path.extension().is_some_and(|kind| ["rs", "mjs"].iter().any(|known| kind == *known));
                let is_foreign = path.ends_with("node_modules") || path.ends_with("target");
                match path.is_dir() {
                    true if !is_foreign => folders.push(path),
                    false if is_source => files.push(path),
                    _ => {}
                }
            }
        }
        let listed =
            |name: &str| ALL.iter().any(|known| known.name == name) || OUTSIDE.iter().any(|known| known.name == name);
        let mut found = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in names_in(&text) {
                found += 1;
                assert!(listed(name), "{name} in {} is in no list", file.display());
            }
        }
        assert!(found > 20, "the sources are where they were");
    }

    #[test]
    fn every_variable_is_documented_and_no_name_or_key_is_used_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for variable in ALL {
            assert!(!variable.expects.is_empty() && !variable.doc.is_empty(), "{}", variable.name);
            let has_default = !variable.default.is_empty() || !variable.default_note.is_empty();
            assert!(has_default != variable.secret, "a secret has no default, all else has one: {}", variable.name);
            assert!(seen.insert(variable.name), "{}", variable.name);
            assert!(!variable.keys.is_empty(), "{}", variable.name);
            for key in variable.keys {
                assert!(seen.insert(key), "{key}");
            }
        }
    }
}
