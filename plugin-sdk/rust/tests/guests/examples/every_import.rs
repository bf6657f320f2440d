//! Asks everything of the host that there is.
#![forbid(unsafe_code)]

use leanclaw_plugin_sdk::serde_json::Value;
use leanclaw_plugin_sdk::{
    Context, Failure, Inbound, MethodTable, Methods, NoParams, Person, Place, Scope, credentials, events, http, inbox,
    kv, log, settings,
};

#[derive(Default)]
struct Guest;

leanclaw_plugin_sdk::export!(Guest: methods);

impl Methods for Guest {
    fn methods() -> MethodTable<Self> {
        MethodTable::new().method("all", "Does everything.", Scope::Admin, Self::all)
    }
}

impl Guest {
    fn all(&self, context: &Context, _: NoParams) -> Result<u16, Failure> {
        let settings: Value = settings()?;
        kv::put_json("settings", &settings)?;
        let tag = credentials::hmac_sha256("key", context.id().as_bytes())?;
        events::emit("tag", &tag)?;
        log::info!("{}", inbox::submit(message())?.as_str());
        let plain = http::Request::get("https://example.com/").send()?;
        let standard = http::Request::get("https://example.com/").send_over_wasi()?;
        Ok(plain.status.min(standard.status))
    }
}

fn message() -> Inbound {
    Inbound {
        id: "1".into(),
        sender: Person::default(),
        place: Place::direct("here"),
        parts: Vec::new(),
        reply_to: None,
        sent_at_ms: 0,
        extra: None,
    }
}
