//! Names that belong to the original LeanClaw or to OpenClaw, and that this version of the program does not read. They are told apart from misspellings, so that nobody is asked "did you mean" about a name
//! that is right elsewhere.

/// Who knows a name that this program does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownTo {
    /// The TypeScript LeanClaw.
    OriginalLeanClaw,
    /// OpenClaw.
    OpenClaw,
}

impl KnownTo {
    /// The name for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OriginalLeanClaw => "the original LeanClaw",
            Self::OpenClaw => "OpenClaw",
        }
    }
}

/// Variables of the original LeanClaw.
const ORIGINAL_VARIABLES: &[&str] = &[
    "LEANCLAW_GITHUB_TOKEN",
    "LEANCLAW_DEFAULT_PROVIDER",
    "LEANCLAW_ASSISTANT_NAME",
    "LEANCLAW_CONTAINER_IMAGE",
    "LEANCLAW_CONTAINER_MAX_OUTPUT_SIZE",
    "LEANCLAW_CONTAINER_MEMORY_LIMIT",
    "LEANCLAW_CONTAINER_CPU_LIMIT",
    "LEANCLAW_IDLE_TIMEOUT",
    "LEANCLAW_HEARTBEAT_INTERVAL",
    "LEANCLAW_HEARTBEAT_SKIP_WHEN_BUSY",
    "LEANCLAW_COMPACTION_MODEL",
    "LEANCLAW_AUTO_COMPACT",
    "LEANCLAW_APPROVAL_TIMEOUT",
    "LEANCLAW_SKILLS_DIR",
    "LEANCLAW_HOOKS_ENABLED",
];

/// Keys of the original LeanClaw's configuration file; a key covers everything below it.
const ORIGINAL_KEYS: &[&str] = &[
    "assistant.name",
    "container.image",
    "container.maxOutputSize",
    "container.memoryLimit",
    "container.cpuLimit",
    "provider.default",
    "provider.githubToken",
    "heartbeat.interval",
    "heartbeat.skipWhenBusy",
    "compaction.model",
    "compaction.autoCompact",
    "approval.timeout",
    "skills.dir",
    "hooks.enabled",
    "messageRouting",
];

/// Keys of OpenClaw's configuration file; a key covers everything below it.
const OPENCLAW_KEYS: &[&str] = &[
    "acp",
    "agents",
    "approvals",
    "audio",
    "auth",
    "bindings",
    "broadcast",
    "browser",
    "canvasHost",
    "channels",
    "cli",
    "commands",
    "cron",
    "diagnostics",
    "discovery",
    "env",
    "gateway.allowRealIpFallback",
    "gateway.auth.allowTailscale",
    "gateway.auth.rateLimit",
    "gateway.auth.trustedProxy",
    "gateway.channelHealthCheckMinutes",
    "gateway.controlUi.allowExternalEmbedUrls",
    "gateway.controlUi.allowInsecureAuth",
    "gateway.controlUi.automaticallyFetchFavicons",
    "gateway.controlUi.communityInvite",
    "gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback",
    "gateway.controlUi.dangerouslyDisableDeviceAuth",
    "gateway.controlUi.embedSandbox",
    "gateway.controlUi.enabled",
    "gateway.controlUi.environment",
    "gateway.http",
    "gateway.mode",
    "gateway.nodes",
    "gateway.push",
    "gateway.reload",
    "gateway.remote",
    "gateway.tailscale",
    "gateway.tls",
    "gateway.tools",
    "hooks",
    "logging.consoleLevel",
    "logging.file",
    "logging.maxFileBytes",
    "logging.redactPatterns",
    "logging.redactSensitive",
    "mcp",
    "media",
    "memory",
    "messages",
    "meta",
    "models",
    "nodeHost",
    "plugins.installs",
    "plugins.slots",
    "secrets",
    "session",
    "skills",
    "talk",
    "tools",
    "ui",
    "update",
    "web",
    "wizard",
];

/// Whether `name` is a variable of the original LeanClaw that is not used here.
pub(crate) fn is_original_variable(name: &str) -> bool {
    ORIGINAL_VARIABLES.contains(&name)
}

/// Who knows the key `path` (dots between its parts), if anybody.
pub(crate) fn who_knows_key(path: &str) -> Option<KnownTo> {
    let covers = |key: &&str| path == *key || path.strip_prefix(*key).is_some_and(|rest| rest.starts_with('.'));
    if ORIGINAL_KEYS.iter().any(covers) {
        return Some(KnownTo::OriginalLeanClaw);
    }
    OPENCLAW_KEYS.iter().any(covers).then_some(KnownTo::OpenClaw)
}

/// Whether a foreign key lies below `path`, so that `path` is worth descending into.
pub(crate) fn has_keys_below(path: &str) -> bool {
    let below = |key: &&str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    ORIGINAL_KEYS.iter().any(below) || OPENCLAW_KEYS.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::variables;

    #[test]
    fn nothing_listed_as_foreign_is_read_by_the_program() {
        for variable in variables::ALL {
            assert!(!is_original_variable(variable.name), "{}", variable.name);
            for key in variable.keys {
                assert!(!ORIGINAL_KEYS.contains(key) && !OPENCLAW_KEYS.contains(key), "{key}");
            }
        }
    }

    #[test]
    fn a_key_covers_what_is_below_it_and_not_what_merely_starts_alike() {
        assert_eq!(who_knows_key("channels.slack.token"), Some(KnownTo::OpenClaw));
        assert_eq!(who_knows_key("hooks.enabled"), Some(KnownTo::OriginalLeanClaw));
        assert_eq!(who_knows_key("hooks.token"), Some(KnownTo::OpenClaw));
        assert_eq!(who_knows_key("channelsX"), None);
        assert_eq!(who_knows_key("gateway.prot"), None);
    }
}
