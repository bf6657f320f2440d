//! The accept loop, the timers, and stopping in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::check_bind;
use crate::crowd::Crowd;
use crate::error::GatewayError;
use crate::gateway::{Gateway, State};
use crate::hub::{Event, PLUGIN_EVENT_SCOPE, tick_payload};
use crate::web::{self, Line};

/// Largest head of an HTTP request, in bytes.
const HTTP_HEAD_BYTES: usize = 64 * 1024;
/// Most headers of an HTTP request.
const HTTP_HEADERS: usize = 100;
/// Time after a failed accept (usually: no file descriptors left) before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the gateway on `listener` until `shutdown` is cancelled, then stops in order: no new connections, a
/// `shutdown` event, running calls ended or given up, every socket closed with 1012.
///
/// # Errors
/// [`GatewayError::OpenBind`] when the listener is open to others and no credential is configured.
pub async fn serve(listener: TcpListener, gateway: Gateway, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let state = gateway.state;
    let address = listener.local_addr().map_err(GatewayError::Listener)?;
    check_bind(address, &state.config.auth)?;
    state.refresh_health();
    let tasks = TaskTracker::new();
    let timers = CancellationToken::new();
    tasks.spawn(timers.clone().run_until_cancelled_owned(forward_plugin_events(Arc::clone(&state))));
    tasks.spawn(timers.clone().run_until_cancelled_owned(keep_time(Arc::clone(&state))));
    let announcing = Arc::clone(&state);
    tasks.spawn(timers.clone().run_until_cancelled_owned(async move { announcing.announce_presence().await }));
    tracing::info!(%address, "the gateway listens");
    web::announce_page(&state, address);
    let crowd = Crowd::new(state.config.limits.connections);
    tasks.spawn(timers.clone().run_until_cancelled_owned(rest_when_alone(Arc::clone(&state), crowd.clone())));
    accept(&listener, &state, &shutdown, &tasks, &crowd).await;
    drop(listener);
    state.draining.store(true, Ordering::Release);
    tracing::info!(connected = state.hub.len(), "the gateway stops");
    let event = Event::new("shutdown", "{\"reason\":\"gateway stopping\"}")
        .payload_v3("{\"reason\":\"gateway stopping\",\"restartExpectedMs\":null}");
    state.hub.broadcast(event);
    state.hub.stop();
    timers.cancel();
    tasks.close();
    let limits = &state.config.limits;
    // Every task bounds itself; this is for one that does not.
    if tokio::time::timeout(limits.drain + limits.close_grace * 2, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "some connections did not end in time");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    state: &Arc<State>,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
    crowd: &Crowd,
) {
    let router = web::router(Arc::clone(state));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let ip = remote.ip().to_canonical();
        // A trusted proxy stands for many callers; its connections count only together.
        let trusted = state.live.now().trusted_proxies.iter().any(|proxy| proxy.to_canonical() == ip);
        let most = if trusted { usize::MAX } else { state.config.limits.connections_per_ip };
        // Over a cap the socket is closed at once: an answer would cost what the cap is there to save.
        let Some(unknown) = state.connections.enter(ip, most) else { continue };
        let Some(place) = crowd.enter() else { continue };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let line = Line {
            remote,
            place: Arc::new(place),
            unknown: Arc::new(unknown),
            stop: shutdown.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(serve_connection(Arc::clone(state), stream, line, router.clone()));
    }
}

async fn serve_connection(state: Arc<State>, stream: TcpStream, line: Line, router: Router) {
    let (stop, remote): (CancellationToken, SocketAddr) = (line.stop.clone(), line.remote);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(line.clone());
        let answer = router.clone().oneshot(request.map(axum::body::Body::new));
        async move {
            let mut reply = answer.await.unwrap_or_else(|never: Infallible| match never {});
            web::secure(&mut reply);
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.config.limits.http_header_timeout)
        .max_buf_size(HTTP_HEAD_BYTES)
        .max_headers(HTTP_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A request that outlives the drain is given up.
            tokio::time::timeout(state.config.limits.drain, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "an HTTP connection ended badly");
    }
}

/// Hands on what plugins emit.
async fn forward_plugin_events(state: Arc<State>) {
    let mut events = state.services.plugins.subscribe();
    loop {
        match events.recv().await {
            Ok(event) => {
                let payload = event.payload.to_string();
                state.hub.broadcast(Event::new(&event.event, &payload).scope(PLUGIN_EVENT_SCOPE));
                if event.event == "plugins.changed" {
                    state.broadcast_health();
                }
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "plugins emitted events faster than they could be sent");
                state.broadcast_health();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells the program whenever the last connection is gone.
async fn rest_when_alone(state: Arc<State>, crowd: Crowd) {
    let Some(rest) = &state.services.rest else { return };
    loop {
        crowd.gone(state.config.limits.alone_after).await;
        rest();
    }
}

/// Ticks, pings and the regular health refresh.
async fn keep_time(state: Arc<State>) {
    let every = |period: Duration| {
        let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let limits = &state.config.limits;
    let mut tick = every(limits.tick_interval);
    let mut ping = every(limits.ping_interval);
    let mut health = every(limits.health_interval);
    loop {
        tokio::select! {
            _ = tick.tick() => state.hub.broadcast(Event::new("tick", &tick_payload(state.now_ms())).droppable()),
            _ = ping.tick() => state.hub.ping(),
            _ = health.tick() => state.broadcast_health(),
        }
    }
}
