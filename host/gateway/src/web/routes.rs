//! Every route of the gateway's port in one table. The router is made from it, and so is what `/openapi.json` says of it.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, any, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::openapi::document;
use super::reply;
use super::{metrics, plugin_routes, probes, shapes, tools};
use crate::gateway::State;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody.
    Public,
    /// Programs on this machine, and who shows the gateway's credential.
    Local,
    /// Who shows the gateway's credential.
    Credential,
    /// Who shows the token of the hooks.
    HookToken,
}

/// What is sent or answered, by the name of its schema.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One answer: status, what it means, its JSON if it is JSON.
pub(super) type Answered = (u16, &'static str, Option<Shape>);

/// One route.
pub(super) struct Route {
    /// As in OpenAPI: `{name}` is one segment, and `{rest}` at the end any number of them.
    pub(super) path: &'static str,
    /// HTTP methods; GET stands for HEAD as well. Empty: any.
    pub(super) methods: &'static [&'static str],
    pub(super) access: Access,
    pub(super) summary: &'static str,
    /// What is sent, where it is JSON.
    pub(super) sent: Option<Shape>,
    pub(super) answers: &'static [Answered],
    /// What answers it; none where the path is configured and so is looked for last.
    pub(super) handler: Option<fn() -> MethodRouter<Arc<State>>>,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
const ANY: &[&str] = &[];

const NO_CREDENTIAL: Answered = (401, "No credential, or a wrong one.", Some(of::<shapes::Error>));
const NOT_FROM_HERE: Answered =
    (401, "No credential, and the caller is not on this machine; or a wrong one.", Some(of::<shapes::Error>));
const NO_USE: Answered = (403, "No credential would help here; the text says what would.", Some(of::<shapes::Error>));
const FORBIDDEN: Answered =
    (403, "The credential's role does not allow it, or none would help here.", Some(of::<shapes::AnyError>));
const TOO_LARGE: Answered = (413, "The body is too large.", Some(of::<shapes::Error>));
const TOO_OFTEN: Answered = (429, "Too many calls; `Retry-After` says when to come back.", Some(of::<shapes::Error>));
const LOCKED_OUT: Answered =
    (429, "Too many wrong credentials; `Retry-After` says when to come back.", Some(of::<shapes::Error>));
const TOO_OFTEN_OR_LOCKED_OUT: Answered =
    (429, "Too many calls or wrong credentials; `Retry-After` says when to come back.", Some(of::<shapes::Error>));

const LIVE: &[Answered] = &[(200, "The process answers.", Some(of::<shapes::Live>))];
const READY: &[Answered] = &[
    (200, "Every part can serve.", Some(of::<shapes::Ready>)),
    (
        503,
        "A part (database, plugins, channels, sandbox) cannot serve; who is local or shows the credential is told which and why.",
        Some(of::<shapes::Ready>),
    ),
];
const STARTED: &[Answered] = &[
    (200, "The gateway takes connections.", Some(of::<shapes::Started>)),
    (503, "The gateway stops.", Some(of::<shapes::Started>)),
];
const TOOL: &[Answered] = &[
    (200, "What the tool answered.", Some(of::<shapes::ToolAnswer>)),
    (400, "The call is not understood.", Some(of::<shapes::AnyError>)),
    NO_CREDENTIAL,
    FORBIDDEN,
    (404, "There is no such tool.", Some(of::<shapes::ToolError>)),
    TOO_LARGE,
    TOO_OFTEN_OR_LOCKED_OUT,
    (500, "The tool failed.", Some(of::<shapes::ToolError>)),
];
const METRICS: &[Answered] = &[(200, "Counters.", Some(of::<shapes::Metrics>)), NOT_FROM_HERE, NO_USE, LOCKED_OUT];
const METRICS_TEXT: &[Answered] =
    &[(200, "Counters in the text format of Prometheus.", None), NOT_FROM_HERE, NO_USE, LOCKED_OUT];
const WEBHOOK: &[Answered] = &[
    (200, "Whatever the plugin answers, with whatever status.", None),
    (404, "There is no such plugin, or it takes no webhooks.", Some(of::<shapes::Error>)),
    TOO_LARGE,
    TOO_OFTEN,
];
const PLUGIN_ROUTE: &[Answered] = &[
    (200, "Whatever the plugin answers, with whatever status.", None),
    NO_CREDENTIAL,
    FORBIDDEN,
    (404, "There is no such plugin, or it has no routes.", Some(of::<shapes::Error>)),
    TOO_LARGE,
    TOO_OFTEN_OR_LOCKED_OUT,
];
const HOOK: &[Answered] = &[
    (200, "It is stored.", Some(of::<shapes::HookTaken>)),
    (204, "A mapping makes nothing of it.", None),
    (400, "It is not understood, or the token is in the address.", None),
    (401, "No token, or a wrong one.", None),
    TOO_LARGE,
    (429, "Too many calls or wrong tokens; `Retry-After` says when to come back.", None),
    (503, "It cannot be stored, or no more can be taken on.", Some(of::<shapes::HookRefused>)),
];
const PAGE_BASICS: &[Answered] =
    &[(200, "Who is on this machine or shows the credential is told all.", Some(of::<shapes::PageSettings>))];
const PAGE_SETTINGS: &[Answered] =
    &[(200, "How it is to be shown.", Some(of::<shapes::PageSettings>)), NOT_FROM_HERE, NO_USE, LOCKED_OUT];
const PICTURE: &[Answered] = &[
    (200, "The picture, or that there is none.", Some(of::<shapes::Picture>)),
    NOT_FROM_HERE,
    NO_USE,
    (404, "There is no such agent, or `meta=1` is not asked for.", Some(of::<shapes::Error>)),
    LOCKED_OUT,
];
const PAGE: &[Answered] = &[
    (200, "A file of the installed Control UI, or its page.", None),
    (404, "There is no such file, or none is installed.", Some(of::<shapes::Error>)),
];

const fn probe(
    path: &'static str,
    summary: &'static str,
    answers: &'static [Answered],
    handler: fn() -> MethodRouter<Arc<State>>,
) -> Route {
    Route { path, methods: GET, access: Access::Public, summary, sent: None, answers, handler: Some(handler) }
}

/// A document that the Control UI asks for: below `gateway.controlUi.basePath`, so it is looked for last.
const fn of_the_page(path: &'static str, access: Access, summary: &'static str, answers: &'static [Answered]) -> Route {
    Route { path, methods: GET, access, summary, sent: None, answers, handler: None }
}

const fn of_plugins(
    path: &'static str,
    access: Access,
    summary: &'static str,
    answers: &'static [Answered],
    handler: fn() -> MethodRouter<Arc<State>>,
) -> Route {
    Route { path, methods: ANY, access, summary, sent: None, answers, handler: Some(handler) }
}

fn read(methods: MethodRouter<Arc<State>>) -> MethodRouter<Arc<State>> {
    methods.fallback(|| async { reply::method_not_allowed("GET, HEAD") })
}

const WEBHOOK_IS: &str = "A webhook of a plugin, which verifies it; `{key}` is `<plugin>` or `<plugin>~<account>`";
const PLUGIN_ROUTE_IS: &str = "A route of a plugin's own; `{key}` is `<plugin>` or `<plugin>~<account>`";
const LIVE_IS: &str = "Whether the process answers";
const READY_IS: &str = "Whether every part can serve";
const STARTED_IS: &str = "Whether the gateway takes connections";
const PAGE_BASICS_IS: &str = "How the Control UI is to be shown; `gateway.controlUi.basePath` moves it";
const PAGE_SETTINGS_IS: &str =
    "How the Control UI is to be shown, for builds of version 4; `gateway.controlUi.basePath` moves it";
const PICTURE_IS: &str =
    "An agent's picture, asked for with `?meta=1`, as the Control UI does; `gateway.controlUi.basePath` moves it";

/// All of them, in the order in which they are described.
pub(super) static ROUTES: &[Route] = &[
    probe("/health", LIVE_IS, LIVE, || read(get(probes::live))),
    probe("/healthz", LIVE_IS, LIVE, || read(get(probes::live))),
    probe("/ready", READY_IS, READY, || read(get(probes::ready))),
    probe("/readyz", READY_IS, READY, || read(get(probes::ready))),
    probe("/startup", STARTED_IS, STARTED, || read(get(probes::started))),
    probe("/startupz", STARTED_IS, STARTED, || read(get(probes::started))),
    Route {
        path: "/metrics",
        methods: GET,
        access: Access::Local,
        summary: "Counters as JSON; as text for Prometheus when `Accept` asks for it",
        sent: None,
        answers: METRICS,
        handler: Some(|| read(get(metrics::metrics))),
    },
    Route {
        path: "/metrics/prometheus",
        methods: GET,
        access: Access::Local,
        summary: "Counters as text for Prometheus",
        sent: None,
        answers: METRICS_TEXT,
        handler: Some(|| read(get(metrics::prometheus))),
    },
    probe("/openapi.json", "This description", &[(200, "An OpenAPI 3.1 document.", None)], || read(get(document))),
    Route {
        path: "/tools/invoke",
        methods: POST,
        access: Access::Credential,
        summary: "Runs a tool of a plugin",
        sent: Some(of::<shapes::ToolCall>),
        answers: TOOL,
        handler: Some(|| post(tools::invoke).fallback(|| async { reply::method_not_allowed("POST") })),
    },
    of_plugins("/plugins/{key}/hook", Access::Public, WEBHOOK_IS, WEBHOOK, || any(plugin_routes::hook)),
    of_plugins("/plugins/{key}/hook/", Access::Public, WEBHOOK_IS, WEBHOOK, || any(plugin_routes::hook)),
    of_plugins("/plugins/{key}/hook/{rest}", Access::Public, WEBHOOK_IS, WEBHOOK, || any(plugin_routes::hook)),
    of_plugins("/plugins/{key}/http", Access::Credential, PLUGIN_ROUTE_IS, PLUGIN_ROUTE, || any(plugin_routes::route)),
    of_plugins("/plugins/{key}/http/", Access::Credential, PLUGIN_ROUTE_IS, PLUGIN_ROUTE, || any(plugin_routes::route)),
    of_plugins("/plugins/{key}/http/{rest}", Access::Credential, PLUGIN_ROUTE_IS, PLUGIN_ROUTE, || {
        any(plugin_routes::route)
    }),
    Route {
        path: "/hooks/wake",
        methods: POST,
        access: Access::HookToken,
        summary: "Leaves an event for an agent; there is none where `hooks.token` is not configured, and `hooks.path` moves it",
        sent: Some(of::<shapes::HookWake>),
        answers: HOOK,
        handler: None,
    },
    Route {
        path: "/hooks/agent",
        methods: POST,
        access: Access::HookToken,
        summary: "Has an agent run with a message",
        sent: Some(of::<shapes::HookAgent>),
        answers: HOOK,
        handler: None,
    },
    Route {
        path: "/hooks/{name}",
        methods: POST,
        access: Access::HookToken,
        summary: "A hook that `hooks.mappings` in the configuration makes something of",
        sent: None,
        answers: HOOK,
        handler: None,
    },
    of_the_page("/__openclaw/control-ui-config.json", Access::Public, PAGE_BASICS_IS, PAGE_BASICS),
    of_the_page("/control-ui-config.json", Access::Local, PAGE_SETTINGS_IS, PAGE_SETTINGS),
    of_the_page("/__openclaw__/control-ui-config.json", Access::Local, PAGE_SETTINGS_IS, PAGE_SETTINGS),
    of_the_page("/avatar/{agent}", Access::Local, PICTURE_IS, PICTURE),
    Route {
        path: "/{rest}",
        methods: GET,
        access: Access::Public,
        summary: "The Control UI, where one is installed; with `Upgrade: websocket` the gateway protocol, on any path",
        sent: None,
        answers: PAGE,
        handler: None,
    },
];

/// The router of those that have a handler of their own.
pub(super) fn router() -> Router<Arc<State>> {
    let mut router = Router::new();
    for route in ROUTES {
        if let Some(handler) = route.handler {
            router = router.route(&route.path.replace("{rest}", "{*rest}"), handler());
        }
    }
    router
}
