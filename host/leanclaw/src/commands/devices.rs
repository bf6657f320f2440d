//! `leanclaw devices ...`: which devices may connect, and which wait to be let in.

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::fields::{self, short, table, text, time, words};
use super::gateway::{OrList, Plain};
use super::pairing::{Family, One, Request};
use crate::config::Flags;
use crate::output;

/// Without a command, devices are listed.
pub(crate) type Arguments = OrList<Command, Plain>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the devices that may connect and those that wait
    List(Plain),
    /// Let a waiting device in
    Approve(Request),
    /// Send a waiting device away
    Reject(Request),
    /// Forget a device; it must be approved again to connect
    Remove(One),
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
pub(crate) struct Rename {
    #[command(flatten)]
    device: One,
    /// Its name
    label: String,
}

#[derive(Debug, Args)]
pub(crate) struct Role {
    #[command(flatten)]
    device: One,
    /// Its role; `any` takes the bound away
    #[arg(value_parser = ["admin", "user", "viewer", "any"])]
    role: String,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    device: One,
    /// The role whose token is meant
    #[arg(long, default_value = "operator")]
    role: String,
}

const DEVICES: Family = Family {
    one: "device",
    many: "devices",
    id_field: "deviceId",
    known: ("device.pair.list", "paired"),
    waiting: "device.pair.list",
};

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    match arguments.command(Command::List) {
        Command::List(plain) => plain.call(flags, "device.pair.list", json!({}), list),
        Command::Approve(request) => DEVICES.decide(flags, request, "device.pair.approve", "approved"),
        Command::Reject(request) => DEVICES.decide(flags, request, "device.pair.reject", "rejected"),
        Command::Remove(device) => change(flags, device, "device.pair.remove", json!({}), "removed"),
        Command::Rename(Rename { device, label }) => {
            change(flags, device, "device.pair.rename", json!({"label": label}), "renamed")
        }
        Command::Role(Role { device, role }) => {
            let wanted = if role == "any" { json!({}) } else { json!({"role": role}) };
            change(flags, device, "device.role.set", wanted, &format!("is good for: {role}"))
        }
        Command::Rotate(Token { device, role }) => {
            let done = "has a new token; it gets it when it connects with the gateway's token or password";
            change(flags, device, "device.token.rotate", json!({"role": role}), done)
        }
        Command::Revoke(Token { device, role }) => {
            change(flags, device, "device.token.revoke", json!({"role": role}), "has no token any more")
        }
    }
}

fn change(flags: Flags, device: One, method: &str, params: Value, done: &str) -> Result<()> {
    DEVICES.change(flags, device, method, params, |payload| DEVICES.said(payload, done))
}

fn list(payload: &Value, zone: &TimeZone) -> Result<()> {
    let pending = fields::list(payload, "pending")?;
    if !pending.is_empty() {
        let head = ["WAITING", "DEVICE", "NAME", "ROLE", "SCOPES", "FROM", "SINCE"];
        table(&head, pending, "", |row| waiting(row, zone))?;
        output::text("\nLet one in with `leanclaw devices approve WAITING`.\n")?;
    }
    let head = ["DEVICE", "NAME", "CLIENT", "PLATFORM", "ROLES", "SCOPES", "APPROVED"];
    table(&head, fields::list(payload, "paired")?, "No device is paired yet.", |row| paired(row, zone))
}

fn waiting(row: &Value, zone: &TimeZone) -> Vec<String> {
    let field = |name| text(row, name);
    let device = short(&field("deviceId"));
    let since = time(row, "ts", zone);
    vec![field("requestId"), device, name(row), field("role"), scopes(row), field("remoteIp"), since]
}

fn paired(row: &Value, zone: &TimeZone) -> Vec<String> {
    let field = |name| text(row, name);
    let device = short(&field("deviceId"));
    let approved = time(row, "approvedAtMs", zone);
    vec![device, name(row), field("clientId"), field("platform"), words(row, "roles"), scopes(row), approved]
}

fn name(row: &Value) -> String {
    let own = text(row, "label");
    if own.is_empty() { text(row, "displayName") } else { own }
}

/// What all scopes begin with tells nobody anything.
fn scopes(row: &Value) -> String {
    words(row, "scopes").replace("operator.", "")
}
