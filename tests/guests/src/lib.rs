//! Components made from a few lines of WebAssembly text: the guests of the safety tests.
//!
//! They need no compiler for WebAssembly, so those tests always run. A [`Guest`] is a core module in text form, encoded
//! against the project's own `wit` folder; what is tedious about the canonical ABI (signatures, results laid out in
//! memory) is derived from the WIT.

mod builder;
mod constants;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde_json::json;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

pub use builder::Guest;

/// The project's `wit` folder.
#[must_use]
pub fn wit_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

/// The project's WIT, read once: reading it takes longer than everything else about a guest.
static CONTRACT: OnceLock<Resolve> = OnceLock::new();

fn read_wit(folder: &Path) -> Result<Resolve> {
    let mut resolve = Resolve::default();
    resolve.push_path(folder).context("the wit folder does not parse")?;
    Ok(resolve)
}

/// Reads a WIT folder (none: the project's own) and a world written against it.
pub(crate) fn resolve(wit: Option<&Path>, package: &str) -> Result<(Resolve, WorldId)> {
    let mut resolve = match (wit, CONTRACT.get()) {
        (Some(folder), _) => read_wit(folder)?,
        (None, Some(contract)) => contract.clone(),
        (None, None) => {
            let contract = read_wit(&wit_folder())?;
            CONTRACT.get_or_init(|| contract).clone()
        }
    };
    let id = resolve.push_str("test.wit", package).context("the world does not parse")?;
    let world = resolve.select_world(&[id], None)?;
    Ok((resolve, world))
}

/// Encodes the core module `text` as a component of `world`.
pub(crate) fn encode(resolve: &Resolve, world: WorldId, text: &str) -> Result<Vec<u8>> {
    let mut module = wat::parse_str(text).context("the module text does not parse")?;
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode().context("the module does not fit the world")
}

/// A package with one world in it, whose unversioned names are ours at `version`.
#[must_use]
pub(crate) fn world(body: &str, version: &str) -> String {
    let lines = body.split(';').map(str::trim).filter(|line| !line.is_empty()).map(|line| {
        let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
        if name.contains(':') { format!("{verb} {name};") } else { format!("{verb} leanclaw:plugin/{name}@{version};") }
    });
    format!("package test:guest; world guest {{ {} }}", lines.collect::<Vec<_>>().join(" "))
}

/// A `method` component whose `run` does what `invoke` says; see [`Guest::method`].
///
/// # Errors
/// The text, the world or their fit is wrong; the error says which.
pub fn method(invoke: &str) -> Result<Vec<u8>> {
    Guest::method("", invoke).build()
}

/// A `method` component that gives back its parameters.
///
/// # Errors
/// As [`method`].
pub fn echo() -> Result<Vec<u8>> {
    method("(call $ok (local.get $params) (local.get $params_len))")
}

/// A `method` component that always gives `answer`, which is JSON text.
///
/// # Errors
/// As [`method`].
pub fn answers(answer: &str) -> Result<Vec<u8>> {
    Guest::new("export method;").methods().answer("method.invoke", json!({ "ok": answer })).build()
}

/// A `method` component whose `run` takes an address as a JSON string, sends a GET with `headers` there through the
/// plain `http` interface and gives back the body of the answer, which has to be JSON.
#[must_use]
pub fn fetch(headers: &[(&str, &str)]) -> Guest {
    fetch_within(headers, None)
}

/// [`fetch`] with a time limit of the guest's own, in milliseconds.
#[must_use]
pub fn fetch_within(headers: &[(&str, &str)], timeout_ms: Option<u64>) -> Guest {
    let headers: Vec<_> = headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let count = headers.len();
    let (given, milliseconds) = timeout_ms.map_or((0, 0), |limit| (1, limit));
    Guest::method(
        "import http; import blobs;",
        &format!(
            "(call $http.send (global.get $get) (global.get $get_len)
                (i32.add (local.get $params) (i32.const 1)) (i32.sub (local.get $params_len) (i32.const 2))
                (global.get $headers) (i32.const {count}) (i32.const 0) (i32.const 0)
                (i32.const {given}) (i64.const {milliseconds}) (local.tee $area (call $room)))
            (if (result i32) (i32.load8_u (local.get $area))
                (then (local.get $area))
                (else (call $whole (i32.load offset=20 (local.get $area)))))"
        ),
    )
    .text("get", "GET")
    .list("headers", "types.header", headers)
    .fields(WHOLE)
}

/// A guest of this world that can run [`FETCH`] for `url`.
#[must_use]
pub fn fetching(world: &str, url: &str) -> Guest {
    Guest::new(&format!("import http; {world}")).text("get", "GET").text("url", url)
}

/// Asks for the text `url`, with the text `get` as method; what came of it lies at `$area`.
pub const FETCH: &str =
    "(call $http.send (global.get $get) (global.get $get_len) (global.get $url) (global.get $url_len)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0)
        (local.tee $area (call $room)))";

/// `$whole`: the text of a blob, read with one call, as the answer of a method.
const WHOLE: &str = "(func $whole (param $blob i32) (result i32)
    (local $area i32)
    (call $blobs.blob.read (local.get $blob) (i32.const 1000000) (local.tee $area (call $room)))
    (if (i32.load8_u (local.get $area)) (then (return (local.get $area))))
    (if (i32.eqz (i32.load8_u offset=8 (local.get $area))) (then (return (call $ok (global.get $null) (global.get $null_len)))))
    (call $ok (i32.load offset=12 (local.get $area)) (i32.load offset=16 (local.get $area))))";

/// A `method` component whose `run` sends a GET to `http://AUTHORITY/PATH` through standard `wasi:http`, reads the answer
/// to its end and gives back the first piece of it, which has to be JSON. A failure comes back as a number: a hundred for
/// a refusal before anything was sent, two hundred for a failed exchange, three hundred for a failed body, plus the case
/// of `error-code` (or `stream-error`).
#[must_use]
pub fn wasi_fetch(authority: &str, path: &str) -> Guest {
    let imports = "import wasi:http/types@0.2.12; import wasi:http/outgoing-handler@0.2.12;
        import wasi:io/poll@0.2.12; import wasi:io/streams@0.2.12;";
    Guest::method(imports, WASI_FETCH).text("authority", authority).text("path", path)
}

const WASI_FETCH: &str = "
    (local.set $i (call $types.outgoing-request.new (call $types.fields.new)))
    (drop (call $types.outgoing-request.set-scheme (local.get $i) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $types.outgoing-request.set-authority
        (local.get $i) (i32.const 1) (global.get $authority) (global.get $authority_len)))
    (drop (call $types.outgoing-request.set-path-with-query
        (local.get $i) (i32.const 1) (global.get $path) (global.get $path_len)))
    (call $outgoing-handler.handle (local.get $i) (i32.const 0) (i32.const 0) (local.tee $area (call $room)))
    (if (i32.load8_u (local.get $area))
        (then (return (call $number (i32.add (i32.const 100) (i32.load8_u offset=8 (local.get $area)))))))
    (local.set $i (i32.load offset=8 (local.get $area)))
    (call $poll.pollable.block (call $types.future-incoming-response.subscribe (local.get $i)))
    (call $types.future-incoming-response.get (local.get $i) (local.tee $area (call $room)))
    (if (i32.load8_u offset=16 (local.get $area))
        (then (return (call $number (i32.add (i32.const 200) (i32.load8_u offset=24 (local.get $area)))))))
    (call $types.incoming-response.consume (i32.load offset=24 (local.get $area)) (local.tee $area (call $room)))
    (call $types.incoming-body.stream (i32.load offset=4 (local.get $area)) (local.tee $area (call $room)))
    (local.set $i (i32.load offset=4 (local.get $area)))
    (block $end
        (loop $more
            (call $streams.input-stream.blocking-read (local.get $i) (i64.const 100000) (local.tee $area (call $room)))
            (if (i32.load8_u (local.get $area)) (then
                (br_if $end (i32.eq (i32.load8_u offset=4 (local.get $area)) (i32.const 1)))
                (return (call $number (i32.const 300)))))
            (if (i32.eqz (local.get $k)) (then
                (local.set $j (i32.load offset=4 (local.get $area)))
                (local.set $k (i32.load offset=8 (local.get $area)))))
            (br $more)))
    (call $ok (local.get $j) (local.get $k))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_encodes() {
        let many = [
            echo(),
            answers("1"),
            fetch(&[("x-a", "1")]).build(),
            fetch_within(&[], Some(5)).build(),
            wasi_fetch("127.0.0.1:9", "/").build(),
        ];
        for wasm in many {
            assert!(wasm.unwrap().starts_with(b"\0asm\x0d\0\x01\0"), "a component");
        }
    }

    #[test]
    fn what_does_not_fit_the_contract_is_an_error() {
        let wrong = |guest: Guest| guest.build().unwrap_err().to_string();
        assert!(wrong(Guest::new("export hook;").answer("hook.nothing", json!(null))).contains("hook.nothing"));
        assert!(wrong(Guest::new("export hook;").answer("hook.events", json!("text"))).contains("hook.events"));
        assert!(wrong(Guest::new("export hook;").arguments("x", "log.write", vec![])).contains("log.write"));
    }
}
