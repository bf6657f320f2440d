//! What a component wants and offers, against what the host has: the table that is shown before anything is linked, on
//! `check`, `install` and load.
//!
//! It reads only the names of imports and exports, so it works for components that would not link, and it never runs
//! guest code.

use std::fmt;

use leanclaw_types::permission::Permissions;
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

/// Version of the contract the host serves.
pub(crate) const CONTRACT_VERSION: &str = "0.1.0";

/// Newest WASI 0.2 version the host serves; every older 0.2 is served too.
pub(crate) const WASI_VERSION: &str = "0.2.12";

/// What a component imports and exports at its top level, as `package/interface@version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// Interfaces it needs.
    pub imports: Vec<String>,
    /// Interfaces it offers.
    pub exports: Vec<String>,
}

impl Interfaces {
    /// Reads the names out of a component's bytes.
    ///
    /// # Errors
    /// The parser's words for what is broken.
    pub fn read(wasm: &[u8]) -> Result<Self, String> {
        let mut found = Self::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(|error| error.to_string())? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        found.imports.push(import.map_err(|error| error.to_string())?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        found.exports.push(export.map_err(|error| error.to_string())?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Short names of what the host can call in it: `channel`, `skill`, `method`, `hook`, `http`, ...
    #[must_use]
    pub fn served_exports(&self) -> Vec<&'static str> {
        self.exports.iter().filter_map(|name| export(name)).collect()
    }
}

/// How one interface stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Standing {
    /// The host offers it and it is granted; or the host calls this export.
    Provided,
    /// It is there so that the component loads, and holds nothing: toolchains import it whether it is used or not.
    ProvidedEmpty {
        /// What every use of it comes to, and what to use instead.
        reason: String,
    },
    /// The host offers it, and no grant covers it.
    NotGranted {
        /// What the manifest has to ask for, if it does not.
        declare: String,
    },
    /// The host offers another version.
    WrongVersion {
        /// The version the host has.
        offered: String,
    },
    /// The host does not know it.
    Unknown,
}

impl Standing {
    fn is_provided(&self) -> bool {
        matches!(self, Self::Provided | Self::ProvidedEmpty { .. })
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `import` or `export`.
    pub direction: String,
    /// The interface.
    pub interface: String,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// The whole table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// Every import and export.
    pub rows: Vec<Row>,
    /// What to do, one line each.
    pub hints: Vec<String>,
}

/// The permission an interface of ours needs; none when it is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Need {
    Kv,
    Credentials,
    Http,
    /// The types that requests of the plugin and requests to it share. A component that serves requests has them whatever
    /// is granted, so that it can be loaded without its routes.
    HttpTypes,
    Events,
    Inbox,
}

impl Need {
    pub(crate) const ALL: [Self; 6] =
        [Self::Kv, Self::Credentials, Self::Http, Self::HttpTypes, Self::Events, Self::Inbox];

    /// Whether `permissions` hold it.
    pub(crate) fn is_met(self, permissions: &Permissions) -> bool {
        match self {
            Self::Kv => permissions.kv.is_some(),
            Self::Credentials => !permissions.secrets.is_empty(),
            Self::Http => !permissions.http.is_empty() || !permissions.private_http.is_empty(),
            Self::HttpTypes => Self::Http.is_met(permissions) || permissions.http_routes,
            Self::Events => !permissions.events.is_empty(),
            Self::Inbox => permissions.inbox,
        }
    }

    /// The manifest line that asks for it.
    fn declare(self) -> &'static str {
        match self {
            Self::Kv => r#""kv": {"quotaBytes": 1048576}"#,
            Self::Credentials => r#""secrets": [{"name": "NAME", "hmac": true}]"#,
            Self::Http => r#""http": ["https://HOST"]"#,
            Self::HttpTypes => r#""httpRoutes": true, or "http": ["https://HOST"]"#,
            Self::Events => r#""events": ["NAME"]"#,
            Self::Inbox => r#""inbox": true"#,
        }
    }
}

/// What the host offers under `package/interface`.
fn offered(package: &str, interface: &str) -> Option<Option<Need>> {
    match (package, interface) {
        ("leanclaw:plugin", "types" | "log" | "settings" | "blobs" | "messages" | "call") => Some(None),
        ("leanclaw:plugin", "kv") => Some(Some(Need::Kv)),
        ("leanclaw:plugin", "credentials") => Some(Some(Need::Credentials)),
        ("leanclaw:plugin", "http") | ("wasi:http", "outgoing-handler") => Some(Some(Need::Http)),
        ("leanclaw:plugin", "events") => Some(Some(Need::Events)),
        ("leanclaw:plugin", "inbox") => Some(Some(Need::Inbox)),
        ("wasi:http", "types") => Some(Some(Need::HttpTypes)),
        ("wasi:io", "error" | "poll" | "streams")
        | ("wasi:clocks", "wall-clock" | "monotonic-clock")
        | ("wasi:random", "random" | "insecure" | "insecure-seed")
        | ("wasi:filesystem", "types" | "preopens")
        | (
            "wasi:sockets",
            "network" | "instance-network" | "ip-name-lookup" | "tcp" | "tcp-create-socket" | "udp"
            | "udp-create-socket",
        )
        | (
            "wasi:cli",
            "environment" | "exit" | "stdin" | "stdout" | "stderr" | "terminal-input" | "terminal-output"
            | "terminal-stdin" | "terminal-stdout" | "terminal-stderr",
        ) => Some(None),
        _ => None,
    }
}

/// What an interface comes to that is linked with nothing in it.
fn emptiness(package: &str, interface: &str) -> Option<&'static str> {
    match (package, interface) {
        ("wasi:sockets", _) => Some("every socket and lookup is refused; use wasi:http or `http`"),
        ("wasi:filesystem", _) => Some("there is no directory; use `kv` and `blobs`"),
        ("wasi:cli", "environment") => Some("there are no variables and no arguments; use `settings`"),
        ("wasi:cli", "stdin") => Some("it is at its end; use the call's parameters"),
        _ => None,
    }
}

/// The short name of an export the host calls.
fn export(name: &str) -> Option<&'static str> {
    let (package, interface, version) = split(name);
    let known = match (package, interface) {
        ("leanclaw:plugin", "channel") => "channel",
        ("leanclaw:plugin", "channel-actions") => "channel-actions",
        ("leanclaw:plugin", "webhook") => "webhook",
        ("leanclaw:plugin", "poll") => "poll",
        ("leanclaw:plugin", "socket") => "socket",
        ("leanclaw:plugin", "skill") => "skill",
        ("leanclaw:plugin", "method") => "method",
        ("leanclaw:plugin", "hook") => "hook",
        ("wasi:http", "incoming-handler") => "http",
        _ => return None,
    };
    fits(package, version).then_some(known)
}

/// `package/interface@version` in its parts; a missing part is empty.
fn split(name: &str) -> (&str, &str, &str) {
    let (path, version) = name.split_once('@').unwrap_or((name, ""));
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    (package, interface, version)
}

/// Whether the host's version may serve a component made for `version`: the same major version, below 1.0 also the same
/// minor one. A component made for a newer one of those is not refused for its number: it loads when the host has every
/// function it imports, and linking says which one is missing.
fn fits(package: &str, version: &str) -> bool {
    let (Ok(wanted), Ok(own)) = (semver::Version::parse(version), semver::Version::parse(own_version(package))) else {
        return false;
    };
    let same_track = wanted.major == own.major && (own.major > 0 || wanted.minor == own.minor);
    same_track && wanted.pre.is_empty()
}

fn own_version(package: &str) -> &'static str {
    if package.starts_with("wasi:") { WASI_VERSION } else { CONTRACT_VERSION }
}

fn import_standing(name: &str, serves_http: bool, granted: &Permissions) -> Standing {
    let (package, interface, version) = split(name);
    let Some(need) = offered(package, interface) else { return Standing::Unknown };
    if !fits(package, version) {
        return Standing::WrongVersion { offered: own_version(package).into() };
    }
    match need {
        Some(Need::HttpTypes) if serves_http => Standing::Provided,
        Some(need) if !need.is_met(granted) => Standing::NotGranted { declare: need.declare().into() },
        _ => match emptiness(package, interface) {
            Some(reason) => Standing::ProvidedEmpty { reason: reason.into() },
            None => Standing::Provided,
        },
    }
}

fn export_standing(name: &str) -> Standing {
    let (package, interface, _) = split(name);
    if export(name).is_some() {
        return Standing::Provided;
    }
    let ours_or_http = package == "leanclaw:plugin" || (package == "wasi:http" && interface == "incoming-handler");
    let known = ours_or_http && export(&format!("{package}/{interface}@{}", own_version(package))).is_some();
    if known { Standing::WrongVersion { offered: own_version(package).into() } } else { Standing::Unknown }
}

impl Diagnosis {
    /// Compares `interfaces` with the host and with what plugin `id` was granted.
    #[must_use]
    pub fn of(id: &str, interfaces: &Interfaces, requested: &Permissions, granted: &Permissions) -> Self {
        let serves_http = interfaces.served_exports().contains(&"http");
        let imports = interfaces.imports.iter().map(|name| Row {
            direction: "import".into(),
            interface: crate::logs::escape(crate::logs::cut(name, 200)),
            standing: import_standing(name, serves_http, granted),
        });
        let exports = interfaces.exports.iter().map(|name| Row {
            direction: "export".into(),
            interface: crate::logs::escape(crate::logs::cut(name, 200)),
            standing: export_standing(name),
        });
        let mut diagnosis = Self { rows: imports.chain(exports).collect(), hints: Vec::new() };
        diagnosis.hints = diagnosis.advice(id, interfaces, requested);
        diagnosis
    }

    /// Whether the component can be linked and has something the host calls.
    #[must_use]
    pub fn is_loadable(&self) -> bool {
        let imports_met = self.rows.iter().all(|row| row.direction == "export" || row.standing.is_provided());
        imports_met && self.rows.iter().any(|row| row.direction == "export" && row.standing == Standing::Provided)
    }

    /// Whether only a grant is missing.
    #[must_use]
    pub fn needs_only_a_grant(&self) -> bool {
        !self.is_loadable()
            && self.rows.iter().all(|row| {
                row.direction == "export"
                    || row.standing.is_provided()
                    || matches!(row.standing, Standing::NotGranted { .. })
            })
            && self.rows.iter().any(|row| row.direction == "export" && row.standing == Standing::Provided)
    }

    /// What keeps it from being loaded, in one line: lists show no more.
    fn summary(&self) -> Option<String> {
        let named = |wanted: &dyn Fn(&Standing) -> bool| {
            let rows = self.rows.iter().filter(|row| row.direction == "import" && wanted(&row.standing));
            let names: Vec<&str> = rows.map(|row| row.interface.as_str()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        if self.is_loadable() {
            return None;
        }
        if let Some(names) = named(&|standing| matches!(standing, Standing::WrongVersion { .. } | Standing::Unknown)) {
            return Some(format!("it imports what this host does not have: {names}"));
        }
        if let Some(names) = named(&|standing| matches!(standing, Standing::NotGranted { .. })) {
            return Some(format!("it imports what is not granted: {names}"));
        }
        Some("it exports nothing that this host calls".to_owned())
    }

    fn advice(&self, id: &str, interfaces: &Interfaces, requested: &Permissions) -> Vec<String> {
        let mut hints = Vec::new();
        for row in &self.rows {
            let interface = &row.interface;
            match &row.standing {
                Standing::NotGranted { declare } => {
                    let (package, name, _) = split(interface);
                    let asked = offered(package, name).flatten().is_some_and(|need| need.is_met(requested));
                    if asked {
                        hints.push(format!("`{interface}` is asked for and not granted: leanclaw plugin grant {id} --all"));
                    } else {
                        hints.push(format!(
                            "`{interface}` is imported but not asked for: add {declare} to \"permissions\" in the manifest, then leanclaw plugin grant {id} --all"
                        ));
                    }
                }
                Standing::WrongVersion { offered } => hints.push(format!(
                    "`{interface}`: this host offers version {offered}; build against its `wit` folder (leanclaw plugin new shows where)"
                )),
                Standing::Unknown if row.direction == "import" => hints.push(format!(
                    "`{interface}` is nothing the host offers; it has the interfaces in `wit` and WASI 0.2, not WASI 0.3 (preview 3)"
                )),
                _ => {}
            }
        }
        if interfaces.served_exports().is_empty() {
            hints.push("The component exports nothing the host calls: export channel, skill, method, hook or wasi:http/incoming-handler".into());
        }
        hints
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(summary) = self.summary() {
            writeln!(formatter, "{summary}")?;
        }
        let width = self.rows.iter().map(|row| row.interface.len()).max().unwrap_or_default();
        for row in &self.rows {
            let standing = match &row.standing {
                Standing::Provided => "provided".to_owned(),
                Standing::ProvidedEmpty { reason } => format!("provided, empty: {reason}"),
                Standing::NotGranted { .. } => "not granted".to_owned(),
                Standing::WrongVersion { offered } => format!("wrong version (host offers {offered})"),
                Standing::Unknown if row.direction == "export" => "not called by the host".to_owned(),
                Standing::Unknown => "unknown".to_owned(),
            };
            writeln!(formatter, "{}  {:width$}  {standing}", row.direction, row.interface)?;
        }
        for hint in &self.hints {
            writeln!(formatter, "hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(imports: &[&str], exports: &[&str]) -> Interfaces {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Interfaces { imports: own(imports), exports: own(exports) }
    }

    fn granted(value: serde_json::Value) -> Permissions {
        serde_json::from_value(value).unwrap()
    }

    const METHOD: &str = "leanclaw:plugin/method@0.1.0";

    #[test]
    fn a_missing_grant_names_the_command_and_goes_away_with_it() {
        let wants_kv = interfaces(&["leanclaw:plugin/kv@0.1.0", "wasi:io/poll@0.2.6"], &[METHOD]);
        let asked = granted(serde_json::json!({"kv": {}}));
        let without = Diagnosis::of("notes", &wants_kv, &asked, &Permissions::default());
        assert!(!without.is_loadable() && without.needs_only_a_grant());
        assert!(without.to_string().contains("leanclaw plugin grant notes --all"), "{without}");
        let unasked = Diagnosis::of("notes", &wants_kv, &Permissions::default(), &Permissions::default());
        assert!(unasked.to_string().contains("quotaBytes"), "{unasked}");
        assert!(Diagnosis::of("notes", &wants_kv, &asked, &asked).is_loadable());
    }

    #[test]
    fn versions_follow_the_compatibility_track() {
        for (name, good) in [
            ("leanclaw:plugin/log@0.1.0", true),
            ("leanclaw:plugin/log@0.1.7", true),
            ("leanclaw:plugin/log@0.1.0-rc.1", false),
            ("leanclaw:plugin/log@0.2.0", false),
            ("leanclaw:plugin/log@1.0.0", false),
            ("wasi:io/poll@0.2.0", true),
            ("wasi:io/poll@0.2.12", true),
            ("wasi:io/poll@0.2.99", true),
            ("wasi:io/poll@0.3.0", false),
            ("wasi:io/poll", false),
        ] {
            let diagnosis =
                Diagnosis::of("x", &interfaces(&[name], &[METHOD]), &Permissions::default(), &Permissions::default());
            assert_eq!(diagnosis.is_loadable(), good, "{name}\n{diagnosis}");
        }
    }

    #[test]
    fn what_is_linked_and_holds_nothing_is_called_empty_and_loads() {
        let names = ["wasi:sockets/tcp@0.2.6", "wasi:filesystem/preopens@0.2.6", "wasi:cli/environment@0.2.6"];
        let diagnosis =
            Diagnosis::of("x", &interfaces(&names, &[METHOD]), &Permissions::default(), &Permissions::default());
        assert!(diagnosis.is_loadable() && diagnosis.hints.is_empty(), "{diagnosis}");
        let table = diagnosis.to_string();
        for (line, instead) in table.lines().zip(["wasi:http", "`kv`", "`settings`"]) {
            assert!(line.contains("provided, empty: ") && line.contains(instead), "{table}");
        }
        let none = Diagnosis::of(
            "x",
            &interfaces(&["wasi:sockets/types@0.3.0"], &[METHOD]),
            &Permissions::default(),
            &Permissions::default(),
        );
        assert!(!none.is_loadable() && none.to_string().contains("WASI 0.3"), "{none}");
    }

    #[test]
    fn a_component_without_a_use_is_told_so() {
        let diagnosis =
            Diagnosis::of("x", &interfaces(&[], &["run"]), &Permissions::default(), &Permissions::default());
        assert!(!diagnosis.is_loadable() && !diagnosis.needs_only_a_grant());
        assert!(diagnosis.to_string().contains("exports nothing the host calls"), "{diagnosis}");
    }

    #[test]
    fn names_are_read_from_the_top_level_only() {
        let wasm = wat::parse_str(
            r#"(component
                (component $inner (import "hidden:x/y@1.0.0" (instance)))
                (import "leanclaw:plugin/log@0.1.0" (instance $log))
                (core module))"#,
        )
        .unwrap();
        assert_eq!(Interfaces::read(&wasm).unwrap(), interfaces(&["leanclaw:plugin/log@0.1.0"], &[]));
        assert!(Interfaces::read(&wasm[..wasm.len() - 3]).is_err());
    }
}
