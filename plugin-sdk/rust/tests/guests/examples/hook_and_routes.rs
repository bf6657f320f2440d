//! A hook, and HTTP routes over `wasi:http/incoming-handler`.
#![forbid(unsafe_code)]

use leanclaw_plugin_sdk::serde_json::Value;
use leanclaw_plugin_sdk::{Context, Decision, Failure, Hook, HttpRoutes, web};

#[derive(Default)]
struct Guest;

leanclaw_plugin_sdk::export!(Guest: hook, routes);

impl Hook for Guest {
    const EVENTS: &'static [&'static str] = &["before-send"];

    fn handle(&self, _context: &Context<'_>, _event: &str, _payload: Value) -> Result<Decision, Failure> {
        Ok(Decision::proceed())
    }
}

impl HttpRoutes for Guest {
    fn handle(&self, request: web::Request) -> Result<web::Reply, Failure> {
        Ok(web::Reply::text(200, request.path))
    }
}
