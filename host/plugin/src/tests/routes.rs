//! A plugin's own HTTP routes, and handlers that leave their work undone.

use leanclaw_test_guests::Guest;
use leanclaw_types::Failure;
use serde_json::json;

use super::support::{Bench, asking, assert_failed, context};

/// Makes a response (`$i`) and its body (`$j`) with a stream (`$k`) to write to.
const MAKE: &str = "
    (local.set $i (call $types.outgoing-response.new (call $types.fields.new)))
    (call $types.outgoing-response.body (local.get $i) (local.tee $area (call $room)))
    (local.set $j (i32.load offset=4 (local.get $area)))
    (call $types.outgoing-body.write (local.get $j) (local.tee $area (call $room)))
    (local.set $k (i32.load offset=4 (local.get $area)))";

/// Hands the response over.
const SET: &str = "(call $types.response-outparam.set (local.get $response-out) (i32.const 0) (local.get $i)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";

/// Writes the text.
const WRITE: &str = "(call $streams.output-stream.blocking-write-and-flush
    (local.get $k) (global.get $text) (global.get $text_len) (call $room))";

/// Says that the body is whole.
const FINISH: &str = "(call $streams.output-stream.drop (local.get $k))
    (call $types.outgoing-body.finish (local.get $j) (i32.const 0) (i32.const 0) (call $room))";

/// A handler that does these steps, with a text of this many bytes.
fn handler(steps: &[&str], text_bytes: usize) -> Vec<u8> {
    let world =
        "import wasi:http/types@0.2.12; import wasi:io/streams@0.2.12; export wasi:http/incoming-handler@0.2.12;";
    let guest = Guest::new(world).text("text", &"x".repeat(text_bytes));
    guest.run("incoming-handler.handle", &steps.concat()).build().unwrap()
}

async fn ask(bench: &Bench, id: &str) -> Result<http::Response<bytes::Bytes>, Failure> {
    let request = http::Request::builder().uri("http://localhost/a?b=1").body(bytes::Bytes::from("hi")).unwrap();
    bench.plugins.http_route(&id.parse().unwrap(), request, context()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_response_is_given_back_and_needs_the_grant() {
    let bench = Bench::with_witness().await;
    let rights = json!({"httpRoutes": true});
    bench.install(&asking("whole", rights.clone()), &handler(&[MAKE, SET, WRITE, FINISH], 4096)).await;
    // More than the pipe between guest and host holds.
    let long: Vec<&str> = [MAKE, SET].into_iter().chain([WRITE; 100]).chain([FINISH]).collect();
    bench.install(&asking("long", rights), &handler(&long, 4096)).await;
    for (id, length) in [("whole", 4096), ("long", 409_600)] {
        let response = ask(&bench, id).await.unwrap();
        assert_eq!((response.status().as_u16(), response.body().len()), (200, length));
    }
    bench.revoke("whole").await;
    let failure = ask(&bench, "whole").await.unwrap_err();
    assert_failed(&failure, "denied");
    assert_eq!(failure.hints, ["leanclaw plugin grant whole http-routes"]);
    bench.grant("whole").await;
    assert!(ask(&bench, "whole").await.is_ok());
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_returns_too_early_keeps_nobody_waiting() {
    let bench = Bench::with_witness().await;
    let internal_error = "(call $types.response-outparam.set (local.get $response-out) (i32.const 1) (i32.const 38)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    let cases: [(&str, &[&str]); 5] = [
        ("silent", &[]),
        ("unset", &[MAKE, WRITE]),
        ("empty", &[MAKE, SET]),
        ("unfinished", &[MAKE, SET, WRITE]),
        ("refuses", &[internal_error]),
    ];
    for (id, steps) in cases {
        bench.install(&asking(id, json!({"httpRoutes": true})), &handler(steps, 100)).await;
        let failure = ask(&bench, id).await.unwrap_err();
        assert_failed(&failure, "internal");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_taken_up_to_a_size() {
    let bench = Bench::with_witness().await;
    let again = format!(
        "(global.set $left (i32.const 3000))
         (loop $again {WRITE} (br_if $again (global.get $left) (global.set $left (i32.sub (global.get $left) (i32.const 1)))))"
    );
    let world =
        "import wasi:http/types@0.2.12; import wasi:io/streams@0.2.12; export wasi:http/incoming-handler@0.2.12;";
    let guest = Guest::new(world)
        .text("text", &"x".repeat(4096))
        .fields("(global $left (mut i32) (i32.const 0))")
        .run("incoming-handler.handle", &[MAKE, SET, &again, FINISH].concat());
    bench.install(&asking("huge", json!({"httpRoutes": true})), &guest.build().unwrap()).await;
    let failure = ask(&bench, "huge").await.unwrap_err();
    assert_failed(&failure, "too-large");
    bench.close().await;
}
