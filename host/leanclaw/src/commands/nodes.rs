//! `leanclaw nodes ...`: the devices that are asked to do things, and which of them wait to be approved.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::block_on;
use super::gateway::Which;
use crate::config::Flags;
use crate::output;
use crate::report::Advice;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes, and what waits to be approved
    List(Plain),
    /// Approve what a waiting node declares
    Approve(Request),
    /// Send a waiting node away
    Reject(Request),
    /// Take back what a node was approved for; its connections end
    Remove(Node),
    /// Give a node a name
    Rename(Rename),
    /// Have a node carry out a command and print its answer
    Invoke(Invoke),
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
    /// The request, as `leanclaw nodes list` shows it; the only one when it is left out
    request: Option<String>,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// The node, or as much of its id as tells it apart
    node: String,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// The node, or as much of its id as tells it apart
    node: String,
    /// Its name
    name: String,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The node, or as much of its id as tells it apart
    node: String,
    /// The command, such as `system.which`
    command: String,
    /// Its parameters, a JSON object
    #[arg(long, default_value = "{}")]
    params: String,
    /// Seconds the node has
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    give_seconds: u64,
    #[command(flatten)]
    plain: Plain,
}

pub(crate) fn run(flags: Flags, command: Command) -> Result<()> {
    match command {
        Command::List(plain) => list(flags, plain),
        Command::Approve(request) => decide(flags, request, "node.pair.approve", "approved"),
        Command::Reject(request) => decide(flags, request, "node.pair.reject", "rejected"),
        Command::Remove(Node { node, plain }) => {
            let json = plain.json;
            let payload = ask(flags, plain, &node, "node.pair.remove", json!({}))?;
            told(json, &payload, |payload| format!("{} is approved for nothing any more", text(payload, "nodeId")))
        }
        Command::Rename(Rename { node, name, plain }) => {
            let json = plain.json;
            let payload = ask(flags, plain, &node, "node.rename", json!({"displayName": name}))?;
            told(json, &payload, |payload| format!("renamed to {}", text(payload, "displayName")))
        }
        Command::Invoke(Invoke { node, command, params, give_seconds, plain }) => {
            let params: Value = serde_json::from_str(&params).map_err(|error| {
                Advice::new(format!("--params is not JSON: {error}"))
                    .hint("for example --params '{\"bins\": [\"ls\"]}'")
            })?;
            let call = json!({
                "command": command, "params": params, "timeoutMs": give_seconds * 1000,
                "idempotencyKey": uuid::Uuid::new_v4().to_string(),
            });
            let json = plain.json;
            let payload = ask(flags, plain, &node, "node.invoke", call)?;
            if json { output::json(&payload) } else { output::json(payload.get("payload").unwrap_or(&Value::Null)) }
        }
    }
}

fn list(flags: Flags, plain: Plain) -> Result<()> {
    let found = plain.gateway.find(flags)?;
    let (nodes, waiting) = block_on(async {
        let mut client = found.connect().await?;
        let nodes = client.request("node.list", Some(json!({}))).await?;
        let waiting = client.request("node.pair.list", Some(json!({}))).await?;
        client.close().await;
        Ok((nodes, waiting))
    })?;
    if plain.json {
        return output::json(&json!({"nodes": nodes.get("nodes"), "pending": waiting.get("pending")}));
    }
    let waiting: Vec<Vec<String>> = array(&waiting, "pending").iter().map(waits).collect();
    if !waiting.is_empty() {
        output::table(&["WAITING", "NODE", "NAME", "PLATFORM", "COMMANDS"], &waiting)?;
        output::text("\nApprove one with `leanclaw nodes approve WAITING`.\n")?;
    }
    let rows: Vec<Vec<String>> = array(&nodes, "nodes").iter().map(row).collect();
    if rows.is_empty() {
        return output::text("There is no node yet.");
    }
    output::table(&["NODE", "NAME", "PLATFORM", "STATE", "COMMANDS"], &rows)
}

fn decide(flags: Flags, request: Request, method: &str, done: &str) -> Result<()> {
    let json = request.plain.json;
    let found = request.plain.gateway.find(flags)?;
    let payload = block_on(async {
        let mut client = found.connect().await?;
        let id = match request.request {
            Some(id) => id,
            None => only(array(&client.request("node.pair.list", Some(json!({}))).await?, "pending"))?,
        };
        let payload = client.request(method, Some(json!({"requestId": id}))).await?;
        client.close().await;
        Ok(payload)
    })?;
    told(json, &payload, |payload| {
        let node = payload.pointer("/node/nodeId").or(payload.get("nodeId")).and_then(Value::as_str);
        format!("{} {done}", short(node.unwrap_or_default()))
    })
}

/// Calls a method about the node whose id begins so.
fn ask(flags: Flags, plain: Plain, node: &str, method: &str, more: Value) -> Result<Value> {
    let found = plain.gateway.find(flags)?;
    block_on(async {
        let mut client = found.connect().await?;
        let id = meant(array(&client.request("node.list", Some(json!({}))).await?, "nodes"), node)?;
        let mut params = more;
        if let Some(params) = params.as_object_mut() {
            params.insert("nodeId".into(), json!(id));
        }
        let payload = client.request(method, Some(params)).await?;
        client.close().await;
        Ok(payload)
    })
}

fn told(json: bool, payload: &Value, say: impl FnOnce(&Value) -> String) -> Result<()> {
    if json { output::json(payload) } else { output::text(&say(payload)) }
}

/// The id of the only request that waits.
fn only(pending: &[Value]) -> Result<String> {
    match pending {
        [one] => Ok(text(one, "requestId")),
        [] => Err(Advice::new("no node waits to be approved").into()),
        several => {
            let message = format!("{} nodes wait to be approved: say which", several.len());
            Err(Advice::new(message).hint("`leanclaw nodes list` shows them").into())
        }
    }
}

/// The id of the node that `given` begins.
fn meant(nodes: &[Value], given: &str) -> Result<String> {
    let ids: Vec<String> = nodes.iter().map(|row| text(row, "nodeId")).filter(|id| id.starts_with(given)).collect();
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => {
            let message = format!("no node's id begins with `{given}`");
            Err(Advice::new(message).hint("`leanclaw nodes list` shows them").into())
        }
        several => {
            let message = format!("the ids of {} nodes begin with `{given}`: give more of it", several.len());
            Err(Advice::new(message).into())
        }
    }
}

fn waits(request: &Value) -> Vec<String> {
    let node = text(request, "nodeId");
    vec![
        text(request, "requestId"),
        short(&node).to_owned(),
        text(request, "displayName"),
        text(request, "platform"),
        words(request, "commands"),
    ]
}

fn row(node: &Value) -> Vec<String> {
    let is_connected = node.get("connected") == Some(&Value::Bool(true));
    let state = match text(node, "approvalState").as_str() {
        "pending-approval" if is_connected => "connected, waits",
        _ if is_connected => "connected",
        _ => "away",
    };
    let id = text(node, "nodeId");
    vec![
        short(&id).to_owned(),
        text(node, "displayName"),
        text(node, "platform"),
        state.to_owned(),
        words(node, "commands"),
    ]
}

fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn words(value: &Value, field: &str) -> String {
    array(value, field).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_a_request_need_only_be_told_apart() {
        let nodes = [json!({"nodeId": "ab12"}), json!({"nodeId": "ab34"})];
        assert_eq!(meant(&nodes, "ab3").unwrap(), "ab34");
        assert!(meant(&nodes, "ab").unwrap_err().to_string().contains("2 nodes"));
        assert!(meant(&nodes, "x").unwrap_err().to_string().contains("no node"));
        assert_eq!(only(&[json!({"requestId": "r"})]).unwrap(), "r");
        assert!(only(&[]).is_err());
    }

    #[test]
    fn a_row_says_whether_the_node_can_be_asked() {
        let node = json!({"nodeId": "0123456789abcdef", "displayName": "box", "platform": "linux", "connected": true,
            "approvalState": "pending-approval", "commands": []});
        assert_eq!(row(&node), ["0123456789ab", "box", "linux", "connected, waits", ""]);
        assert_eq!(row(&json!({"nodeId": "n", "commands": ["a", "b"]}))[3..], ["away", "a,b"]);
    }
}
