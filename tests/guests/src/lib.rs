//! Components made from a few lines of WebAssembly text: the guests of the safety tests.
//!
//! They need no compiler for WebAssembly, so those tests always run. A guest is a core module in text form, with the
//! canonical ABI written out by hand, encoded against the project's own `wit` folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The project's `wit` folder.
#[must_use]
pub fn wit_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

/// Encodes the core module `text` as a component of a world with this `body` (such as `import log; export method;`).
///
/// # Errors
/// The text, the world or their fit is wrong; the error says which.
pub fn component(body: &str, text: &str) -> Result<Vec<u8>> {
    component_of(&wit_folder(), &world(body, "0.1.0"), text)
}

/// The same against another WIT folder and a whole package text with one world in it.
///
/// # Errors
/// As [`component`].
pub fn component_of(wit: &Path, package: &str, text: &str) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    resolve.push_path(wit).context("the wit folder does not parse")?;
    let id = resolve.push_str("test.wit", package).context("the world does not parse")?;
    let world = resolve.select_world(&[id], None)?;
    let mut module = wat::parse_str(text).context("the module text does not parse")?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode().context("the module does not fit the world")
}

/// A package with one world in it, whose unversioned names are ours at `version`.
#[must_use]
pub fn world(body: &str, version: &str) -> String {
    let lines = body.split(';').map(str::trim).filter(|line| !line.is_empty()).map(|line| {
        let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
        if name.contains(':') { format!("{verb} {name};") } else { format!("{verb} leanclaw:plugin/{name}@{version};") }
    });
    format!("package test:guest; world guest {{ {} }}", lines.collect::<Vec<_>>().join(" "))
}

/// A module with what every guest needs: memory, an allocator, and data placed from address 16 on.
///
/// `imports` and `body` are module fields in text form. Each `(name, text)` of `data` becomes two constants, the globals
/// `$name` (address) and `$name_len` (bytes).
#[must_use]
pub fn module(imports: &str, data: &[(&str, &str)], body: &str) -> String {
    let mut globals = String::new();
    let mut segments = String::new();
    let mut address = 16;
    for (name, text) in data {
        globals.push_str(&format!(
            "(global ${name} i32 (i32.const {address})) (global ${name}_len i32 (i32.const {}))",
            text.len()
        ));
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        segments.push_str(&format!("(data (i32.const {address}) \"{escaped}\")"));
        address += text.len().next_multiple_of(16).max(16);
    }
    let heap = address.next_multiple_of(1024) + 1024;
    format!(
        r#"(module
            {imports}
            (memory (export "memory") 4)
            (global $heap (mut i32) (i32.const {heap}))
            {globals}
            {segments}
            (func $alloc (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                                        (i32.sub (i32.const 0) (local.get $align))))
                (global.set $heap (i32.add (local.get $at) (local.get $size)))
                (block $fits
                    (loop $grow
                        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                        (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
                        unreachable))
                (local.get $at))
            {body})"#
    )
}

/// Exports of a `method` component with one method `run` of scope operator.read and free schemas, whose `invoke` is
/// `invoke`: instructions of a function `(param $context i32) (param $name i32) (param $name_len i32) (param $params i32)
/// (param $params_len i32)` that leave the address of a `result<string, failure>` on the stack. `call $ok` makes one from
/// address and length of a text; `call $echo` is the parameters themselves.
#[must_use]
pub fn method_module(imports: &str, data: &[(&str, &str)], invoke: &str) -> String {
    let mut all = vec![
        ("m_name", "run"),
        ("m_scope", "operator.read"),
        ("m_schema", "{}"),
        ("m_text", "Runs."),
        ("null", "null"),
    ];
    all.extend_from_slice(data);
    let body = format!(
        r#"
        (func $ok (param $at i32) (param $len i32) (result i32)
            (local $area i32)
            (local.set $area (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 72)))
            (i32.store8 (local.get $area) (i32.const 0))
            (i32.store offset=8 (local.get $area) (local.get $at))
            (i32.store offset=12 (local.get $area) (local.get $len))
            (local.get $area))
        (func (export "leanclaw:plugin/method@0.1.0#methods") (result i32)
            (local $spec i32)
            (local.set $spec (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 52)))
            (i32.store offset=0 (local.get $spec) (global.get $m_name))
            (i32.store offset=4 (local.get $spec) (global.get $m_name_len))
            (i32.store offset=8 (local.get $spec) (global.get $m_text))
            (i32.store offset=12 (local.get $spec) (global.get $m_text_len))
            (i32.store offset=16 (local.get $spec) (global.get $m_scope))
            (i32.store offset=20 (local.get $spec) (global.get $m_scope_len))
            (i32.store offset=24 (local.get $spec) (global.get $m_schema))
            (i32.store offset=28 (local.get $spec) (global.get $m_schema_len))
            (i32.store offset=32 (local.get $spec) (global.get $m_schema))
            (i32.store offset=36 (local.get $spec) (global.get $m_schema_len))
            (i32.store8 offset=40 (local.get $spec) (i32.const 0))
            (call $ok (local.get $spec) (i32.const 1)))
        (func (export "leanclaw:plugin/method@0.1.0#invoke")
            (param $context i32) (param $name i32) (param $name_len i32) (param $params i32) (param $params_len i32) (result i32)
            (call $drop_context (local.get $context))
            {invoke})"#
    );
    // A borrowed handle has to be given back before the call returns.
    let drop_context =
        r#"(import "leanclaw:plugin/call@0.1.0" "[resource-drop]context" (func $drop_context (param i32)))"#;
    module(&format!("{drop_context} {imports}"), &all, &body)
}

/// A `method` component whose `run` does what `invoke` says; see [`method_module`].
///
/// # Errors
/// As [`component`].
pub fn method(imports: &[&str], import_text: &str, data: &[(&str, &str)], invoke: &str) -> Result<Vec<u8>> {
    let body: String = imports.iter().map(|name| format!("import {name};")).collect();
    component(&format!("{body} export method;"), &method_module(import_text, data, invoke))
}

/// A `method` component that gives back its parameters.
///
/// # Errors
/// As [`component`].
pub fn echo() -> Result<Vec<u8>> {
    method(&[], "", &[], "(call $ok (local.get $params) (local.get $params_len))")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_echo_guest_encodes() {
        let wasm = super::echo().unwrap();
        assert!(wasm.starts_with(b"\0asm\x0d\0\x01\0"), "a component");
    }
}
