//! The smallest server on the HTTP stack that LeanClaw uses: `GET /ready` answers 200. Start time and memory of the
//! gateway are shown beside its own.

use anyhow::{Context as _, Result};
use axum::Router;
use axum::routing::get;

fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).context("the port is missing")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(axum::serve(listener, Router::new().route("/ready", get(async || "ready"))).await?)
    })
}
