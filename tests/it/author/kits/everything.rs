//! Uses every part of the Rust kit. `kits.rs` asks it the same as the plugins beside this one, and for its own routes.

use leanclaw_plugin_sdk::kv::Expect;
use leanclaw_plugin_sdk::serde_json::{Value, json};
use leanclaw_plugin_sdk::{
    Blob, Channel, ChannelActions, Context, Decision, Descriptor, Endpoint, Failure, Frame, Hook, HttpRoutes, Inbound,
    MethodTable, Methods, NoParams, Outbound, Output, Part, Person, Place, Poll, PollStep, Reaction, Receipt, Scope,
    Skill, Socket, Structured, Tool, ToolTable, Webhook, credentials, events, http, inbox, kv, log, now_ms, settings,
    web,
};

const MAX_BODY_BYTES: usize = 64 * 1024;

#[derive(Default)]
struct Everything;

leanclaw_plugin_sdk::export!(Everything: methods, skill, hook, channel, actions, webhook, poll, socket, routes);

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2).filter_map(|at| text.get(at..at + 2));
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

impl Methods for Everything {
    fn methods() -> MethodTable<Self> {
        MethodTable::new()
            .method("store", "Uses the store.", Scope::Write, Self::store)
            .method("ask", "Sends a request.", Scope::Write, Self::ask)
            .method("sign", "Signs and verifies.", Scope::Write, Self::sign)
            .method("tell", "Says it in the log and in an event.", Scope::Write, Self::tell)
            .method("undeclared", "Emits an event that nobody granted.", Scope::Read, Self::undeclared)
            .method("who", "Tells of the call.", Scope::Read, Self::who)
            .method("fail", "Fails.", Scope::Read, Self::fail)
    }
}

impl Everything {
    fn store(&self, _: &Context, _: NoParams) -> Result<Value, Failure> {
        let first = kv::put_if("text", "grüß".as_bytes(), Expect::Absent, None)?;
        let code = kv::put_if("text", b"other", Expect::Absent, None).err().map(|failure| failure.code);
        let second = kv::put_if("json", br#"{"a":[1]}"#, Expect::Absent, Some(600))?;
        let mut counted = Vec::new();
        for _ in 0..2 {
            counted.push(kv::update("count", |count: Option<u32>| Ok(count.unwrap_or_default() + 1))?);
        }
        let read = kv::get("text")?.ok_or_else(|| Failure::not_found("It is gone."))?;
        Ok(json!({
            "code": code,
            "rises": second > first && read.revision == first,
            "text": String::from_utf8_lossy(&read.value),
            "json": kv::get_json::<Value>("json")?,
            "counted": counted,
            "keys": [kv::keys("", None, 100)?, kv::keys("", Some("count"), 1)?, kv::keys("te", None, 100)?],
            "removed": [kv::delete("text")?, kv::delete("text")?],
            "gone": kv::get("text")?.is_none(),
        }))
    }

    fn ask(&self, _: &Context, given: Value) -> Result<Value, Failure> {
        let request = http::Request::post(text(&given, "url")).header("Authorization", "Bearer {{secret:token}}");
        let response = request.json(&given["json"])?.timeout_ms(30_000).send()?;
        let (status, kind) = (response.status, response.headers.get("Content-Type").map(str::to_owned));
        let ok = (200..300).contains(&status);
        Ok(json!({"ok": ok, "status": status, "kind": kind, "text": response.text(MAX_BODY_BYTES)?, "again": true}))
    }

    fn sign(&self, _: &Context, given: Value) -> Result<Value, Failure> {
        let (message, tag) = (text(&given, "message"), unhex(&text(&given, "tag")));
        Ok(json!({
            "tag": hex(&credentials::hmac_sha256("key", message.as_bytes())?),
            "valid": credentials::verify_hmac_sha256("key", message.as_bytes(), &tag)?,
            "forged": credentials::verify_hmac_sha256("key", format!("{message}!").as_bytes(), &tag)?,
            "known": [credentials::exists("key"), credentials::exists("nothing")],
        }))
    }

    fn tell(&self, _: &Context, given: Value) -> Result<Value, Failure> {
        let what = text(&given, "what");
        log::warn!(what = what.as_str(), count = 2; "told");
        events::emit("seen", &json!({ "what": what }))?;
        settings()
    }

    fn undeclared(&self, _: &Context, _: NoParams) -> Result<(), Failure> {
        events::emit("undeclared", &json!({}))
    }

    fn who(&self, context: &Context, _: NoParams) -> Result<Value, Failure> {
        context.check()?;
        context.progress(1, Some(2), Some("half"));
        context.emit_text("a piece")?;
        let caller = context.caller();
        Ok(json!({
            "named": !context.id().is_empty(),
            "kind": caller.kind,
            "scopes": caller.scopes,
            "hasTime": !context.remaining().is_zero(),
            "cancelled": context.is_cancelled(),
        }))
    }

    fn fail(&self, _: &Context, _: NoParams) -> Result<(), Failure> {
        Err(Failure::rate_limited("Slow down.").retry_after_ms(1500))
    }

    fn pack(&self, _: &Context, given: Value) -> Result<Structured<Value>, Failure> {
        let text = text(&given, "text");
        let length = json!({"length": text.chars().count()});
        Ok(Structured::new(length).text("packed").file(Blob::new("text/plain", text)))
    }
}

impl Skill for Everything {
    fn tools() -> ToolTable<Self> {
        ToolTable::new().tool(Tool::new("pack", "Packs a text into a file.", Self::pack))
    }
}

impl Hook for Everything {
    const EVENTS: &'static [&'static str] = &["before-tool-call", "before-send"];

    fn handle(&self, _: &Context<'_>, event: &str, mut payload: Value) -> Result<Decision, Failure> {
        if event == "before-tool-call" {
            let forbidden = payload["input"]["text"] == "forbidden";
            return Ok(if forbidden { Decision::deny("It is forbidden.") } else { Decision::proceed() });
        }
        let said = text(&payload["parts"][0], "text");
        if said == "quiet" {
            return Ok(Decision::proceed());
        }
        payload["parts"][0]["text"] = said.to_uppercase().into();
        Decision::replace(&payload)
    }
}

impl Channel for Everything {
    fn describe(&self) -> Descriptor {
        Descriptor {
            id: "everything".into(),
            title: "Everything".into(),
            max_text_bytes: 4000,
            abilities: vec!["typing".into()],
            extra: None,
        }
    }

    fn deliver(&self, message: Outbound) -> Result<Receipt, Failure> {
        let text = message.text();
        if text == "LATER" {
            return Err(Failure::unavailable("Later.").retry_after_ms(2000));
        }
        kv::put_json(&format!("sent/{}", message.idempotency_key), &text)?;
        Ok(Receipt { message_id: Some(format!("{}:{text}", message.place.id)), extra: None })
    }
}

impl ChannelActions for Everything {
    fn perform(&self, action: &str, place: Place, given: Value) -> Result<Value, Failure> {
        if action != "typing" {
            return Err(Failure::unsupported(format!("The channel cannot {action}.")));
        }
        Ok(json!({"place": place.id, "seconds": given["seconds"]}))
    }
}

impl Webhook for Everything {
    fn handle(&self, request: web::Request) -> Result<web::Reply, Failure> {
        if request.method != "POST" {
            return Ok(web::Reply::status(405));
        }
        let tag = unhex(request.headers.get("X-Tag").unwrap_or_default());
        if !credentials::verify_hmac_sha256("key", &request.body, &tag)? {
            return Ok(web::Reply::text(401, "forged"));
        }
        let given: Value = request.json()?;
        let status = inbox::submit(Inbound {
            id: text(&given, "id"),
            sender: Person { id: "ada".into(), display_name: Some("Ada".into()), ..Person::default() },
            place: Place::group("room"),
            parts: vec![Part::text(text(&given, "text"))],
            reply_to: None,
            sent_at_ms: now_ms(),
            extra: None,
        })?;
        let told = json!({"status": status.as_str(), "query": request.query});
        Ok(web::Reply::json(202, &told)?.header("X-Path", &request.path))
    }
}

impl Poll for Everything {
    fn next(&self) -> Result<PollStep, Failure> {
        let settings: Value = settings()?;
        let request = http::Request::get(format!("{}/updates", text(&settings, "server"))).header("X-Since", "7");
        Ok(PollStep { request: Some(request.timeout_ms(30_000)), wait_ms: 60_000 })
    }

    fn received(&self, answer: Result<http::Response, Failure>) -> Result<(), Failure> {
        let told = match answer {
            Ok(response) => {
                let status = response.status;
                let news: Value = response.json(MAX_BODY_BYTES)?;
                json!({"status": status, "news": news["news"]})
            }
            Err(failure) => json!({"code": failure.code}),
        };
        events::emit("polled", &told)
    }
}

impl Socket for Everything {
    fn target(&self) -> Result<Endpoint, Failure> {
        let settings: Value = settings()?;
        let mut endpoint = Endpoint { url: text(&settings, "socket"), ..Endpoint::default() };
        endpoint.headers.set("X-Hello", "there");
        Ok(endpoint)
    }

    fn opened(&self) -> Result<Reaction, Failure> {
        Ok(Reaction::send(Frame::text("opened")))
    }

    fn received(&self, frame: Frame) -> Result<Reaction, Failure> {
        if let Some(text) = frame.as_text() {
            return Ok(Reaction::send(Frame::text(text.to_uppercase())));
        }
        let reversed: Vec<u8> = frame.data.into_iter().rev().collect();
        Ok(Reaction::send(Frame::binary(reversed)).wake_after_ms(50))
    }

    fn woken(&self) -> Result<Reaction, Failure> {
        Ok(Reaction { close: true, ..Reaction::send(Frame::text("woken")) })
    }

    fn closed(&self, code: u16, _reason: &str) -> Result<(), Failure> {
        events::emit("closed", &json!({ "code": code }))
    }
}

impl HttpRoutes for Everything {
    fn handle(&self, request: web::Request) -> Result<web::Reply, Failure> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let told = json!({"method": request.method, "path": request.path, "query": request.query, "body": body});
        Ok(web::Reply::json(203, &told)?.header("X-Answer", request.headers.get("X-Ask").unwrap_or("none")))
    }
}
