//! `leanclaw devices ...`: which devices may connect, and which wait to be let in.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};

use super::block_on;
use super::gateway::Which;
use crate::config::Flags;
use crate::output;
use crate::report::Advice;
use crate::telemetry::shown_time;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the devices that may connect and those that wait
    List(Plain),
    /// Let a waiting device in
    Approve(Request),
    /// Send a waiting device away
    Reject(Request),
    /// Forget a device; it must be approved again to connect
    Remove(Device),
    /// Give a device a name
    Rename(Rename),
    /// Say what a device may do at most, whatever it was approved for; its connections end
    Role(Role),
    /// Make a new token for a device; the old one and connections by it end
    Rotate(Token),
    /// Take a device's token back; connections by it end
    Revoke(Token),
}

#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    gateway: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The request, as `leanclaw devices list` shows it; the only one when it is left out
    request: Option<String>,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Device {
    /// The device, or as much of its id as tells it apart
    device: String,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// The device, or as much of its id as tells it apart
    device: String,
    /// Its name
    label: String,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Role {
    /// The device, or as much of its id as tells it apart
    device: String,
    /// Its role; `any` takes the bound away
    #[arg(value_parser = ["admin", "user", "viewer", "any"])]
    role: String,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The device, or as much of its id as tells it apart
    device: String,
    /// The role whose token is meant
    #[arg(long, default_value = "operator")]
    role: String,
    #[command(flatten)]
    plain: Plain,
}

/// What the gateway lists. Fields that only programs read stay as they come.
#[derive(Debug, Deserialize)]
struct Listing {
    pending: Vec<Value>,
    paired: Vec<Value>,
}

pub(crate) fn run(flags: Flags, command: Command) -> Result<()> {
    match command {
        Command::List(plain) => list(flags, plain),
        Command::Approve(request) => decide(flags, request, "device.pair.approve", "approved"),
        Command::Reject(request) => decide(flags, request, "device.pair.reject", "rejected"),
        Command::Remove(Device { device, plain }) => {
            change(flags, plain, &device, "device.pair.remove", json!({}), "removed")
        }
        Command::Rename(Rename { device, label, plain }) => {
            change(flags, plain, &device, "device.pair.rename", json!({"label": label}), "renamed")
        }
        Command::Role(Role { device, role, plain }) => {
            let wanted = if role == "any" { json!({}) } else { json!({"role": role}) };
            change(flags, plain, &device, "device.role.set", wanted, &format!("is good for: {role}"))
        }
        Command::Rotate(Token { device, role, plain }) => {
            let done = "has a new token; it gets it when it connects with the gateway's token or password";
            change(flags, plain, &device, "device.token.rotate", json!({"role": role}), done)
        }
        Command::Revoke(Token { device, role, plain }) => {
            change(flags, plain, &device, "device.token.revoke", json!({"role": role}), "has no token any more")
        }
    }
}

fn list(flags: Flags, plain: Plain) -> Result<()> {
    let found = plain.gateway.find(flags)?;
    let payload = block_on(async {
        let mut client = found.connect().await?;
        let payload = client.request("device.pair.list", Some(json!({}))).await?;
        client.close().await;
        Ok(payload)
    })?;
    if plain.json {
        return output::json(&payload);
    }
    let listing = listing(payload)?;
    let zone = &found.config.time_zone;
    if !listing.pending.is_empty() {
        let rows: Vec<Vec<String>> = listing.pending.iter().map(|row| waiting(row, zone)).collect();
        output::table(&["WAITING", "DEVICE", "NAME", "ROLE", "SCOPES", "FROM", "SINCE"], &rows)?;
        output::text("\nLet one in with `leanclaw devices approve WAITING`.\n")?;
    }
    let rows: Vec<Vec<String>> = listing.paired.iter().map(|row| paired(row, zone)).collect();
    if rows.is_empty() {
        return output::text("No device is paired yet.");
    }
    output::table(&["DEVICE", "NAME", "CLIENT", "PLATFORM", "ROLES", "SCOPES", "APPROVED"], &rows)
}

fn decide(flags: Flags, request: Request, method: &str, done: &str) -> Result<()> {
    let found = request.plain.gateway.find(flags)?;
    let payload = block_on(async {
        let mut client = found.connect().await?;
        let id = match request.request {
            Some(id) => id,
            None => only(&listing(client.request("device.pair.list", Some(json!({}))).await?)?.pending)?,
        };
        let payload = client.request(method, Some(json!({"requestId": id}))).await?;
        client.close().await;
        Ok(payload)
    })?;
    if request.plain.json {
        return output::json(&payload);
    }
    let device = payload.pointer("/device/deviceId").or(payload.get("deviceId")).and_then(Value::as_str);
    output::text(&format!("{} {done}", short(device.unwrap_or_default())))
}

fn change(flags: Flags, plain: Plain, device: &str, method: &str, more: Value, done: &str) -> Result<()> {
    let found = plain.gateway.find(flags)?;
    let payload = block_on(async {
        let mut client = found.connect().await?;
        let listing = listing(client.request("device.pair.list", Some(json!({}))).await?)?;
        let id = meant(&listing.paired, device)?;
        let mut params = more;
        if let Some(params) = params.as_object_mut() {
            params.insert("deviceId".into(), json!(id));
        }
        let payload = client.request(method, Some(params)).await?;
        client.close().await;
        Ok(payload)
    })?;
    if plain.json {
        return output::json(&payload);
    }
    output::text(&format!("{} {done}", short(&text(&payload, "deviceId"))))
}

fn listing(payload: Value) -> Result<Listing> {
    serde_json::from_value(payload).context("the gateway's answer to `device.pair.list` is not understood")
}

/// The id of the only request that waits.
fn only(pending: &[Value]) -> Result<String> {
    match pending {
        [one] => Ok(text(one, "requestId")),
        [] => Err(Advice::new("no device waits to be let in").hint("a request is forgotten after five minutes").into()),
        several => {
            let message = format!("{} devices wait to be let in: say which", several.len());
            Err(Advice::new(message).hint("`leanclaw devices list` shows them").into())
        }
    }
}

/// The id of the paired device that `given` begins.
fn meant(paired: &[Value], given: &str) -> Result<String> {
    let ids: Vec<String> = paired.iter().map(|row| text(row, "deviceId")).filter(|id| id.starts_with(given)).collect();
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => {
            let message = format!("no paired device's id begins with `{given}`");
            Err(Advice::new(message).hint("`leanclaw devices list` shows them").into())
        }
        several => {
            let message = format!("the ids of {} devices begin with `{given}`: give more of it", several.len());
            Err(Advice::new(message).into())
        }
    }
}

fn waiting(row: &Value, zone: &TimeZone) -> Vec<String> {
    vec![
        text(row, "requestId"),
        short(&text(row, "deviceId")).to_owned(),
        name(row),
        text(row, "role"),
        words(row, "scopes"),
        text(row, "remoteIp"),
        time(row, "ts", zone),
    ]
}

fn paired(row: &Value, zone: &TimeZone) -> Vec<String> {
    vec![
        short(&text(row, "deviceId")).to_owned(),
        name(row),
        text(row, "clientId"),
        text(row, "platform"),
        words(row, "roles"),
        words(row, "scopes"),
        time(row, "approvedAtMs", zone),
    ]
}

/// Enough of an id to tell devices apart.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn name(row: &Value) -> String {
    let own = text(row, "label");
    if own.is_empty() { text(row, "displayName") } else { own }
}

fn text(row: &Value, field: &str) -> String {
    row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn words(row: &Value, field: &str) -> String {
    let list = row.get(field).and_then(Value::as_array);
    let words: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
    words.join(",").replace("operator.", "")
}

fn time(row: &Value, field: &str, zone: &TimeZone) -> String {
    row.get(field).and_then(Value::as_u64).map(|at_ms| shown_time(at_ms, zone)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_as_much_of_its_id_as_tells_it_apart() {
        let paired = [json!({"deviceId": "ab12"}), json!({"deviceId": "ab34"})];
        assert_eq!(meant(&paired, "ab1").unwrap(), "ab12");
        assert!(meant(&paired, "ab").unwrap_err().to_string().contains("2 devices"));
        assert!(meant(&paired, "x").unwrap_err().to_string().contains("no paired device"));
    }

    #[test]
    fn the_only_request_need_not_be_named() {
        let one = json!({"requestId": "r1"});
        assert_eq!(only(std::slice::from_ref(&one)).unwrap(), "r1");
        assert!(only(&[]).is_err());
        assert!(only(&[one.clone(), one]).unwrap_err().to_string().contains("say which"));
    }
}
