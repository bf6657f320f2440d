//! `leanclaw nodes ...`: the devices that are asked to do things, and which of them wait to be approved.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::fields::{self, flag, short, table, text, words};
use super::gateway::{OrList, Plain};
use super::pairing::{Family, One, Request};
use crate::client::GatewayClient;
use crate::config::Flags;
use crate::output;
use crate::report::Advice;

/// Without a command, nodes are listed.
pub(crate) type Arguments = OrList<Command, Plain>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes, and what waits to be approved
    List(Plain),
    /// Approve what a waiting node declares
    Approve(Request),
    /// Send a waiting node away
    Reject(Request),
    /// Take back what a node was approved for; its connections end
    Remove(One),
    /// Give a node a name
    Rename(Rename),
    /// Have a node carry out a command and print its answer
    Invoke(Invoke),
}

#[derive(Debug, Args)]
pub(crate) struct Rename {
    #[command(flatten)]
    node: One,
    /// Its name
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    #[command(flatten)]
    node: One,
    /// The command, such as `system.which`
    command: String,
    /// Its parameters, a JSON object
    #[arg(long, default_value = "{}")]
    params: String,
    /// Seconds the node has
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    give_seconds: u64,
}

const NODES: Family =
    Family { one: "node", many: "nodes", id_field: "nodeId", known: ("node.list", "nodes"), waiting: "node.pair.list" };

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    match arguments.command(Command::List) {
        Command::List(plain) => list(flags, plain),
        Command::Approve(request) => NODES.decide(flags, request, "node.pair.approve", "approved"),
        Command::Reject(request) => NODES.decide(flags, request, "node.pair.reject", "rejected"),
        Command::Remove(node) => NODES.change(flags, node, "node.pair.remove", json!({}), |payload| {
            NODES.said(payload, "is approved for nothing any more")
        }),
        Command::Rename(Rename { node, name }) => {
            NODES.change(flags, node, "node.rename", json!({"displayName": name}), |payload| {
                output::text(&format!("renamed to {}", text(payload, "displayName")))
            })
        }
        Command::Invoke(Invoke { node, command, params, give_seconds }) => {
            let params: Value = serde_json::from_str(&params).map_err(|error| {
                Advice::new(format!("--params is not JSON: {error}"))
                    .hint("for example --params '{\"bins\": [\"ls\"]}'")
            })?;
            let call = json!({
                "command": command, "params": params, "timeoutMs": give_seconds * 1000,
                "idempotencyKey": uuid::Uuid::new_v4().to_string(),
            });
            NODES.change(flags, node, "node.invoke", call, |payload| {
                output::json(payload.get("payload").unwrap_or(&Value::Null))
            })
        }
    }
}

fn list(flags: Flags, plain: Plain) -> Result<()> {
    let talk = async |client: &mut GatewayClient| {
        let nodes = client.request("node.list", Some(json!({}))).await?;
        let waiting = client.request("node.pair.list", Some(json!({}))).await?;
        Ok(json!({"nodes": nodes.get("nodes"), "pending": waiting.get("pending")}))
    };
    plain.talk(flags, talk, |payload, _| {
        let pending = fields::list(payload, "pending")?;
        if !pending.is_empty() {
            table(&["WAITING", "NODE", "NAME", "PLATFORM", "COMMANDS"], pending, "", waits)?;
            output::text("\nApprove one with `leanclaw nodes approve WAITING`.\n")?;
        }
        let head = ["NODE", "NAME", "PLATFORM", "STATE", "COMMANDS"];
        table(&head, fields::list(payload, "nodes")?, "There is no node yet.", row)
    })
}

fn waits(request: &Value) -> Vec<String> {
    let field = |name| text(request, name);
    let node = short(&field("nodeId"));
    vec![field("requestId"), node, field("displayName"), field("platform"), words(request, "commands")]
}

fn row(node: &Value) -> Vec<String> {
    let is_connected = flag(node, "connected");
    let state = match text(node, "approvalState").as_str() {
        "pending-approval" if is_connected => "connected, waits",
        _ if is_connected => "connected",
        _ => "away",
    };
    let field = |name| text(node, name);
    vec![short(&field("nodeId")), field("displayName"), field("platform"), state.to_owned(), words(node, "commands")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_the_node_can_be_asked() {
        let node = json!({"nodeId": "0123456789abcdef", "displayName": "box", "platform": "linux", "connected": true,
            "approvalState": "pending-approval", "commands": []});
        assert_eq!(row(&node), ["0123456789ab", "box", "linux", "connected, waits", ""]);
        assert_eq!(row(&json!({"nodeId": "n", "commands": ["a", "b"]}))[3..], ["away", "a,b"]);
    }
}
