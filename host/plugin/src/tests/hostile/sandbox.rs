//! The parts of WASI that are there so that components load, and hold nothing: sockets, files, environment, input.

use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use crate::diagnose::Interfaces;
use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, manifest};

/// `error-code` of `wasi:sockets`, by its place.
const ACCESS_DENIED: u32 = 1;
const PERMANENT_RESOLVER_FAILURE: u32 = 20;

/// Answers 100 (200, 300) and the error code when the first (second, third) step of `steps` fails, each of which is a
/// call and where its result has the code.
fn steps(steps: &[(&str, u32)]) -> String {
    let mut body = String::new();
    for (number, (call, offset)) in (1_u32..).zip(steps) {
        body.push_str(&format!(
            "{call} (if (i32.load8_u (local.get $area)) (then (return (call $number
                (i32.add (i32.const {}) (i32.load8_u offset={offset} (local.get $area)))))))",
            number * 100
        ));
        body.push_str("(local.set $i (i32.load offset=4 (local.get $area)))");
    }
    body + "(call $number (i32.const 7))"
}

const SOCKETS: &str = "import wasi:sockets/network@0.2.12; import wasi:sockets/instance-network@0.2.12;
    import wasi:sockets/tcp@0.2.12; import wasi:sockets/tcp-create-socket@0.2.12; import wasi:sockets/udp@0.2.12;
    import wasi:sockets/udp-create-socket@0.2.12; import wasi:sockets/ip-name-lookup@0.2.12; import wasi:io/poll@0.2.12;";

/// The address 127.0.0.1 with this port, as flat arguments.
fn loopback(port: u16) -> String {
    let tail = "(i32.const 0) ".repeat(6);
    format!("(i32.const 0) (i32.const {port}) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1) {tail}")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_socket_can_be_made_and_no_name_looked_up() {
    let bench = Bench::with_witness().await;
    let server = Server::body("1").await;
    let at = loopback(server.port());
    let connect = format!(
        "(call $tcp.tcp-socket.start-connect (local.tee $j (local.get $i)) (call $instance-network.instance-network) {at}
            (local.tee $area (call $room)))"
    );
    let finish = "(call $poll.pollable.block (call $tcp.tcp-socket.subscribe (local.get $j)))
        (call $tcp.tcp-socket.finish-connect (local.get $j) (local.tee $area (call $room)))";
    let bind = format!(
        "(call $udp.udp-socket.start-bind (local.get $i) (call $instance-network.instance-network) {}
            (local.tee $area (call $room)))",
        loopback(0)
    );
    let look_up = "(call $ip-name-lookup.resolve-addresses (call $instance-network.instance-network)
        (global.get $name) (global.get $name_len) (local.tee $area (call $room)))";
    let next = "(call $poll.pollable.block (call $ip-name-lookup.resolve-address-stream.subscribe (local.get $i)))
        (call $ip-name-lookup.resolve-address-stream.resolve-next-address (local.get $i) (local.tee $area (call $room)))";
    let create = |kind: &str| {
        format!("(call ${kind}-create-socket.create-{kind}-socket (i32.const 0) (local.tee $area (call $room)))")
    };
    let (tcp, udp) = (create("tcp"), create("udp"));
    let cases = [
        ("tcp", steps(&[(&tcp, 4), (&connect, 1), (finish, 4)]), ACCESS_DENIED),
        ("udp", steps(&[(&udp, 4), (&bind, 1)]), ACCESS_DENIED),
        ("names", steps(&[(look_up, 4), (next, 2)]), PERMANENT_RESOLVER_FAILURE),
    ];
    for (id, body, code) in cases {
        let wasm = Guest::method(SOCKETS, &body).text("name", "localhost").build().unwrap();
        // What HTTP may reach changes nothing about it.
        bench.install(&asking(id, json!({"privateHttp": [server.origin(), "http://localhost"]})), &wasm).await;
        assert_eq!(bench.run(id, "{}").await.unwrap(), (100 + code).to_string(), "{id}: the first step");
    }
    assert!(server.requests().is_empty());
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_directory_no_variable_no_argument_and_no_input() {
    let bench = Bench::with_witness().await;
    let imports = "import wasi:filesystem/preopens@0.2.12; import wasi:cli/environment@0.2.12;
        import wasi:cli/stdin@0.2.12; import wasi:io/streams@0.2.12;";
    let length = |call: &str| {
        format!("(call {call} (local.tee $area (call $room))) (call $number (i32.load offset=4 (local.get $area)))")
    };
    let closed = "(call $streams.input-stream.blocking-read (call $stdin.get-stdin) (i64.const 10) (local.tee $area (call $room)))
        (call $number (i32.and (i32.load8_u (local.get $area)) (i32.load8_u offset=4 (local.get $area))))";
    let cases = [
        ("directories", length("$preopens.get-directories"), "0"),
        ("variables", length("$environment.get-environment"), "0"),
        ("arguments", length("$environment.get-arguments"), "0"),
        (
            "place",
            "(call $environment.initial-cwd (local.tee $area (call $room))) (call $number (i32.load8_u (local.get $area)))"
                .into(),
            "0",
        ),
        ("input", closed.into(), "1"),
    ];
    for (id, body, nothing) in cases {
        bench.install(&manifest(id), &Guest::method(imports, &body).build().unwrap()).await;
        assert_eq!(bench.run(id, "{}").await.unwrap(), nothing, "{id}");
    }
    bench.close().await;
}

/// The table that an author sees says that they are empty, and what to use instead.
#[tokio::test(flavor = "multi_thread")]
async fn the_diagnosis_calls_them_empty() {
    let bench = Bench::with_witness().await;
    let create = "(call $tcp-create-socket.create-tcp-socket (i32.const 0) (call $room)) unreachable";
    let wasm = Guest::method(SOCKETS, create).build().unwrap();
    let interfaces = Interfaces::read(&wasm).unwrap();
    let none = leanclaw_types::permission::Permissions::default();
    let table = crate::Diagnosis::of("tcp", &interfaces, &none, &none);
    assert!(table.is_loadable(), "{table}");
    let row = table.rows.iter().find(|row| row.interface.starts_with("wasi:sockets/tcp-create-socket")).unwrap();
    assert!(
        matches!(&row.standing, crate::Standing::ProvidedEmpty { reason } if reason.contains("wasi:http")),
        "{row:?}"
    );
    assert_eq!(bench.install(&manifest("tcp"), &wasm).await.state, PluginState::Ready);
    bench.close().await;
}
