//! Which server is reached at all: grants, addresses, names, redirects, proxies.

use std::io;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::support::*;
use crate::*;

#[tokio::test]
async fn a_host_is_reached_with_its_grants_and_not_without_either() {
    let server = Server::hello().await;
    let url = server.url("/");
    let (egress, recorder) = egress();
    let open = |policy| egress.open(policy, Arc::new(NoSecrets));

    assert_eq!(fetch(&open(all_for(&url)), get(&url)).await, Ok((200, "hello".into())));
    assert_eq!(server.connections().await, 1);

    let mut not_allowed = all_for(&url);
    not_allowed.allow.clear();
    let error = fetch(&open(not_allowed), get(&url)).await.unwrap_err();
    assert_eq!(error.code(), "denied");
    assert_eq!(error.hints(), [format!("leanclaw plugin grant notes --private-http http://{}", server.address)]);

    let mut not_private = all_for(&url);
    not_private.private.clear();
    let error = fetch(&open(not_private), get(&url)).await.unwrap_err();
    assert_eq!(error.code(), "address-refused");
    assert_eq!(error.hints(), [format!("leanclaw plugin grant notes --private-http http://{}", server.address)]);

    assert_eq!(fetch(&open(nothing()), get(&url)).await.unwrap_err().code(), "denied");
    assert_eq!(server.connections().await, 1);
    assert_eq!(
        recorder.lines(),
        [
            "notes GET 200 0/5",
            "notes GET denied: denied",
            "notes GET denied: address-refused",
            "notes GET denied: denied"
        ]
    );
}

#[tokio::test]
async fn a_grant_for_any_host_is_not_a_grant_for_private_ones() {
    let server = Server::hello().await;
    let port = server.address.port();
    let any = format!("http://*:{port}").parse().unwrap();
    let mut policy = nothing();
    policy.allow = vec![any];
    policy.private = policy.allow.clone();
    // Every spelling of an address on this machine.
    for (host, class) in [
        ("127.0.0.1", AddressClass::Loopback),
        ("127.1", AddressClass::Loopback),
        ("2130706433", AddressClass::Loopback),
        ("0x7f.0.0.1", AddressClass::Loopback),
        ("0177.0.0.1", AddressClass::Loopback),
        ("127.0.0.1.", AddressClass::Loopback),
        ("%31%32%37.0.0.1", AddressClass::Loopback),
        ("[::ffff:127.0.0.1]", AddressClass::Loopback),
        ("[::1]", AddressClass::Loopback),
        ("0.0.0.0", AddressClass::Unspecified),
        ("169.254.169.254", AddressClass::Metadata),
        ("[::ffff:a9fe:a9fe]", AddressClass::Metadata),
    ] {
        let error = fetch_as(policy.clone(), get(&server.url_for(host, "/"))).await.unwrap_err();
        assert!(
            matches!(&error, EgressError::AddressRefused { class: found, .. } if *found == class),
            "{host}: {error}"
        );
    }
    assert_eq!(server.connections().await, 0);
    policy.private = vec![format!("http://127.0.0.1:{port}").parse().unwrap()];
    assert!(fetch_as(policy, get(&server.url_for("2130706433", "/"))).await.is_ok());
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_resolves_to() {
    let server = Server::hello().await;
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    let resolver = FixedResolver::new()
        .with("inside.example", [LOOPBACK])
        .with("meta.example", [metadata])
        .with("both.example", [metadata, LOOPBACK])
        .with("none.example", []);
    let (egress, _) = egress_with(resolver);
    let result = async |host: &str, private: bool| {
        let url = server.url_for(host, "/");
        let mut policy = all_for(&url);
        policy.private.truncate(usize::from(private));
        fetch(&egress.open(policy, Arc::new(NoSecrets)), get(&url)).await
    };
    let refused = |result: Result<_, EgressError>| match result {
        Err(EgressError::AddressRefused { class, remedy, .. }) => (class, remedy.is_some()),
        other => panic!("{other:?}"),
    };

    assert!(result("inside.example", true).await.is_ok());
    assert!(result("INSIDE.example.", true).await.is_ok());
    assert_eq!(refused(result("inside.example", false).await), (AddressClass::Loopback, true));
    assert_eq!(refused(result("meta.example", true).await), (AddressClass::Metadata, false));
    assert_eq!(refused(result("meta.example", false).await), (AddressClass::Metadata, false));
    // Only the address that passed the check is dialled.
    assert!(result("both.example", true).await.is_ok());
    assert_eq!(refused(result("both.example", false).await), (AddressClass::Metadata, false));
    assert_eq!(result("none.example", true).await.unwrap_err().code(), "resolve-failed");
    assert_eq!(result("unknown.example", true).await.unwrap_err().code(), "resolve-failed");
}

/// Gives a good address the first time and a forbidden one ever after.
struct Rebinding(Arc<AtomicUsize>);

impl Resolver for Rebinding {
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        let address = if first { LOOPBACK } else { "169.254.169.254".parse().unwrap() };
        Box::pin(async move { Ok(vec![address]) })
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_dialled() {
    let server = Server::hello().await;
    let url = server.url_for("rebind.example", "/");
    let resolutions = Arc::new(AtomicUsize::new(0));
    let (egress, _) = egress_with(Rebinding(Arc::clone(&resolutions)));
    let handle = egress.open(all_for(&url), Arc::new(NoSecrets));
    assert!(fetch(&handle, get(&url)).await.is_ok());
    assert_eq!(resolutions.load(Ordering::SeqCst), 1);
    // The next request is checked anew: nothing of the first one is kept.
    assert_eq!(fetch(&handle, get(&url)).await.unwrap_err().code(), "address-refused");
    assert_eq!(server.connections().await, 1);
}

#[tokio::test]
async fn a_redirect_is_handed_back_and_not_followed() {
    let inner = Server::hello().await;
    let location = inner.url("/secrets");
    let outer = Server::fixed(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")).await;
    let url = outer.url("/");
    // Even with a grant for the place it points to.
    let mut policy = all_for(&url);
    policy.allow.extend(all_for(&location).allow);
    policy.private.extend(all_for(&location).private);
    let handle = egress().0.open(policy, Arc::new(NoSecrets));
    let response = handle.send(get(&url), soon()).await.unwrap();
    assert_eq!(response.status, 302);
    assert_eq!(response.headers["location"], location.as_str());
    assert_eq!(inner.connections().await, 0);
    assert_eq!(fetch_as(all_for(&url), get(&location)).await.unwrap_err().code(), "denied");
}

#[tokio::test]
async fn a_closed_port_and_a_silent_resolver_are_told_apart() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = fetch_as(all_for(&url), get(&url)).await.unwrap_err();
    assert_eq!(error.code(), "connect-failed");
    assert!(error.is_retryable() && !error.is_denial());

    struct Silent;
    impl Resolver for Silent {
        fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            Box::pin(std::future::pending())
        }
    }
    let url: url::Url = "http://slow.example/".parse().unwrap();
    let mut policy = all_for(&url);
    policy.limits.connect_timeout = Duration::from_millis(30);
    let handle = egress_with(Silent).0.open(policy, Arc::new(NoSecrets));
    let error = fetch(&handle, get(&url)).await.unwrap_err();
    assert_eq!(error, EgressError::TimedOut { phase: "connecting" });
}

const CHILD_TARGET: &str = "EGRESS_TEST_TARGET";

/// Proxy settings are read from a process's environment, so the request is made by a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn proxy_variables_make_no_difference() {
    let (server, proxy) = (Server::hello().await, Server::hello().await);
    let proxy_url = proxy.url("/").to_string();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "tests::pipeline::request_of_the_child", "--ignored"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy_url);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").env(CHILD_TARGET, server.url("/").as_str());
    let status = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap().status;
    assert!(status.success());
    assert_eq!((server.connections().await, proxy.connections().await), (1, 0));
}

#[tokio::test]
#[ignore = "run by proxy_variables_make_no_difference"]
async fn request_of_the_child() {
    let url = std::env::var(CHILD_TARGET).unwrap().parse().unwrap();
    assert_eq!(fetch_as(all_for(&url), get(&url)).await, Ok((200, "hello".into())));
}

/// Counts its lookups, none of which ends before it is told.
struct Hanging(Arc<AtomicUsize>, Arc<tokio::sync::Semaphore>);

impl Resolver for Hanging {
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            let _ended = self.1.acquire().await;
            Ok(vec![LOOPBACK])
        })
    }
}

#[tokio::test]
async fn a_lookup_that_hangs_keeps_its_owners_place() {
    let server = Server::hello().await;
    let url = server.url_for("slow.example", "/");
    let (lookups, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let mut policy = all_for(&url);
    policy.limits.connect_timeout = Duration::from_millis(30);
    policy.limits.concurrency = 1;
    let (egress, _) = egress_with(Hanging(Arc::clone(&lookups), Arc::clone(&end)));
    let handle = egress.open(policy.clone(), Arc::new(NoSecrets));
    assert_eq!(fetch(&handle, get(&url)).await.unwrap_err().code(), "timed-out");
    assert_eq!(fetch(&handle, get(&url)).await.unwrap_err().code(), "busy");
    assert_eq!(lookups.load(Ordering::SeqCst), 1);
    end.add_permits(10);
    policy.limits.connect_timeout = Duration::from_secs(10);
    let handle = egress.open(policy, Arc::new(NoSecrets));
    assert_eq!(fetch(&handle, get(&url)).await, Ok((200, "hello".into())));
}

#[tokio::test]
async fn the_programs_own_listener_is_refused_whatever_is_granted() {
    let (own, other) = (Server::hello().await, Server::hello().await);
    let resolver = || FixedResolver::new().with("inside.example", [LOOPBACK]);
    // Listening on one address, and on every one.
    for listens in [own.address, (std::net::Ipv4Addr::UNSPECIFIED, own.address.port()).into()] {
        let (egress, recorder) = egress_with(resolver());
        egress.refuse_listener(listens);
        for url in [own.url("/"), own.url_for("inside.example", "/"), own.url_for("[::ffff:127.0.0.1]", "/")] {
            let handle = egress.open(all_for(&url), Arc::new(NoSecrets));
            let error = fetch(&handle, get(&url)).await.unwrap_err();
            assert_eq!((error.code(), error.is_denial()), ("address-refused", true), "{url}");
            assert!(error.hints()[0].contains("whatever is granted"), "{:?}", error.hints());
            let mut socket = url.clone();
            socket.set_scheme("ws").unwrap();
            let handle = egress.open(all_for(&socket), Arc::new(NoSecrets));
            let error = handle.connect_websocket(socket, http::HeaderMap::new(), &[], soon()).await.unwrap_err();
            assert!(matches!(error, EgressError::OwnGateway { .. }), "{error:?}");
        }
        assert_eq!(own.connections().await, 0);
        let url = other.url("/");
        assert!(fetch(&egress.open(all_for(&url), Arc::new(NoSecrets)), get(&url)).await.is_ok());
        assert_eq!(recorder.lines().len(), 7);
    }
}
