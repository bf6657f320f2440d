//! `/openapi.json`: the routes for programs, in OpenAPI 3.1, made from the table of routes. The same stands in
//! `openapi.json` beside the sources, which a test holds to it.

use std::sync::LazyLock;

use http::{HeaderValue, header};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::reply::Reply;
use super::routes::{Access, ROUTES, Route};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| described().to_string());

/// `GET /openapi.json`.
pub(super) async fn document() -> Reply {
    let mut reply = Reply::new(DOCUMENT.as_str().into());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// The document for the routes as they are.
pub(super) fn described() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let mut operations = Map::new();
        for method in methods(route) {
            operations.insert(method.to_lowercase(), operation(route, &mut generator));
        }
        paths.insert(route.path.to_owned(), Value::Object(operations));
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "LeanClaw gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The HTTP surface on the gateway's port, beside its WebSocket protocol.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:18789"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "gateway": {"type": "http", "scheme": "bearer", "description": "The gateway's token or password."},
                "hooks": {"type": "http", "scheme": "bearer", "description": "The token of the hooks (hooks.token)."},
            },
        },
    })
}

/// The methods that a route is described with: every usual one where it takes any.
fn methods(route: &Route) -> Vec<&'static str> {
    if route.methods.is_empty() {
        return vec!["GET", "PUT", "POST", "DELETE", "PATCH"];
    }
    route.methods.to_vec()
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for (status, what, shape) in route.answers {
        let mut response = Map::from_iter([("description".to_owned(), json!(what))]);
        if let Some(shape) = shape {
            response.insert("content".into(), json!({"application/json": {"schema": shape(generator)}}));
        }
        responses.insert(status.to_string(), Value::Object(response));
    }
    let security = match route.access {
        Access::Public => json!([]),
        Access::Local => json!([{}, {"gateway": []}]),
        Access::Credential => json!([{"gateway": []}]),
        Access::HookToken => json!([{"hooks": []}]),
    };
    let mut operation = Map::new();
    operation.insert("summary".into(), json!(route.summary));
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let parameters: Vec<Value> = names.map(parameter).collect();
    if !parameters.is_empty() {
        operation.insert("parameters".into(), json!(parameters));
    }
    if let Some(sent) = route.sent {
        let content = json!({"application/json": {"schema": sent(generator)}});
        operation.insert("requestBody".into(), json!({"required": true, "content": content}));
    }
    operation.insert("responses".into(), Value::Object(responses));
    operation.insert("security".into(), security);
    Value::Object(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_the_routes_are() {
        let wanted = format!("{}\n", serde_json::to_string_pretty(&described()).unwrap());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("LEANCLAW_BLESS").is_some() {
            std::fs::write(file, &wanted).unwrap();
            return;
        }
        assert!(
            std::fs::read_to_string(file).unwrap() == wanted,
            "{file} is not what the routes are; LEANCLAW_BLESS=1 cargo test -p leanclaw-gateway openapi writes it anew"
        );
    }
}
