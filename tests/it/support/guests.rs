//! Small plugins made on the spot.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Place;

/// A manifest of a plugin whose component is `plugin.wasm`.
pub(crate) fn manifest(id: &str, version: &str, more: &Value) -> Value {
    let mut manifest = json!({"id": id, "version": version, "main": "plugin.wasm"});
    let object = manifest.as_object_mut().expect("an object");
    object.extend(more.as_object().expect("an object").clone());
    manifest
}

/// Puts a plugin into the plugin folder the way an installer would: every file appears whole, and the manifest last.
pub(crate) fn install_guest(place: &Place, manifest: &Value, wasm: &[u8]) {
    let folder = place.plugins().join(super::text(&manifest["id"]));
    fs::create_dir_all(&folder).expect("a folder can be made");
    for (name, bytes) in [("plugin.wasm", wasm), ("leanclaw.plugin.json", manifest.to_string().as_bytes())] {
        let partial = folder.join(format!("{name}.partial"));
        fs::write(&partial, bytes).expect("a file can be written");
        fs::rename(&partial, folder.join(name)).expect("a file can be moved");
    }
}

/// A plugin `held` whose method `held.run` asks a server and waits for its answer.
pub(crate) fn held_fetch(place: &Place, server: SocketAddr, version: &str, more: &Value) {
    let wasm = leanclaw_test_guests::fetch(&[("x-version", version)]).build().expect("the guest is right");
    let mut all = json!({"permissions": {"privateHttp": [format!("http://{server}")]}});
    all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    install_guest(place, &manifest("held", version, &all), &wasm);
}
