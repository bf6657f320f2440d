//! The stand-in, asked over real HTTP as the agent's conversations go.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// An answer as a client puts it together: its blocks, and why it ended.
#[derive(Debug)]
struct Read {
    content: Vec<Value>,
    stop_reason: String,
    pieces: usize,
}

impl Read {
    fn text(&self) -> String {
        self.content.iter().map(|block| field(block, "text")).collect()
    }

    fn uses(&self) -> Vec<&Value> {
        self.content.iter().filter(|block| field(block, "type") == "tool_use").collect()
    }
}

async fn post(server: &FakeServer, path: &str, body: &Value) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let body = body.to_string();
    let head = "host: x\r\nx-api-key: fake\r\nanthropic-version: 2026-10-21\r\nconnection: close";
    let request = format!("POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn append(block: &mut Value, name: &str, more: &str) {
    let whole = format!("{}{more}", field(block, name));
    block[name] = json!(whole);
}

async fn ask(server: &FakeServer, body: &Value) -> Read {
    let answer = post(server, MESSAGES, body).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut read = Read { content: Vec::new(), stop_reason: String::new(), pieces: 0 };
    for data in answer.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let data: Value = serde_json::from_str(data).unwrap();
        let index = data["index"].as_u64().unwrap_or(0) as usize;
        match field(&data, "type") {
            "content_block_start" => read.content.push(data["content_block"].clone()),
            "content_block_delta" => {
                read.pieces += 1;
                let block = &mut read.content[index];
                for (piece, name) in [("text", "text"), ("thinking", "thinking"), ("partial_json", "json")] {
                    append(block, name, field(&data["delta"], piece));
                }
            }
            "message_delta" => read.stop_reason = field(&data["delta"], "stop_reason").to_owned(),
            _ => {}
        }
    }
    assert!(answer.contains("\"type\":\"message_stop\""), "{answer}");
    for block in read.content.iter_mut().filter(|block| field(block, "type") == "tool_use") {
        block["input"] = serde_json::from_str(field(block, "json")).unwrap();
    }
    read
}

fn conversation(messages: &[Value]) -> Value {
    let tools = ["read", "write", "glob"].map(|name| json!({"name": name, "description": "d", "input_schema": {}}));
    json!({"model": MODEL, "max_tokens": 100, "stream": true, "tools": tools, "messages": messages})
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}]})
}

/// The answer as it goes back, and what the tools gave.
fn results(read: &Read, texts: &[(&str, bool)]) -> [Value; 2] {
    let uses = read.uses();
    assert_eq!(uses.len(), texts.len(), "{uses:?}");
    let results: Vec<Value> = uses
        .iter()
        .zip(texts)
        .map(|(own, (text, is_error))| {
            let content = json!([{"type": "text", "text": text}]);
            json!({"type": "tool_result", "tool_use_id": own["id"], "content": content, "is_error": is_error})
        })
        .collect();
    let uses: Vec<Value> = uses
        .iter()
        .map(|own| json!({"type": "tool_use", "id": own["id"], "name": own["name"], "input": own["input"]}))
        .collect();
    [json!({"role": "assistant", "content": uses}), json!({"role": "user", "content": results})]
}

async fn stand_in() -> FakeServer {
    let server = FakeServer::start_forgetful().await.unwrap();
    serve(&server, Duration::ZERO);
    server
}

#[tokio::test]
async fn asked_about_files_it_looks_and_says_what_it_saw() {
    let server = stand_in().await;
    let mut messages = vec![user("Which FILES are there?")];
    let first = ask(&server, &conversation(&messages)).await;
    assert_eq!((first.stop_reason.as_str(), first.text().as_str()), ("tool_use", "I look which files there are."));
    assert!(first.pieces > 15, "small pieces: {first:?}");
    assert!(field(&first.content[0], "thinking").starts_with("This is about files."), "{first:?}");
    assert_eq!((&first.uses()[0]["name"], &first.uses()[0]["input"]), (&json!("glob"), &json!({"pattern": "*"})));

    messages.extend(results(&first, &[("b.bin\nc/ü.md\na.txt\nd\n[remark]\n", false)]));
    let second = ask(&server, &conversation(&messages)).await;
    let paths: Vec<&Value> = second.uses().iter().map(|own| &own["input"]["path"]).collect();
    assert_eq!(paths, ["c/ü.md", "a.txt", "b.bin"]);
    let ids: std::collections::BTreeSet<&str> =
        first.uses().into_iter().chain(second.uses()).map(|own| field(own, "id")).collect();
    assert_eq!(ids.len(), 4, "each use has an id of its own");

    let given =
        [("     1\t# Heading\n     2\tmore", false), ("[`a.txt` is empty]", false), ("`b.bin` is not text", true)];
    messages.extend(results(&second, &given));
    let third = ask(&server, &conversation(&messages)).await;
    let text = third.text();
    assert_eq!(third.stop_reason, "end_turn");
    assert!(text.starts_with("There are 4 files in the workspace: `b.bin`, `c/ü.md`, `a.txt`, `d`.\n"), "{text}");
    assert!(text.contains("* `c/ü.md` begins with “# Heading”\n"), "{text}");
    assert!(text.contains("* `a.txt` begins with “[`a.txt` is empty]”\n"), "{text}");
    assert!(text.contains("* `b.bin` could not be read: `b.bin` is not text\n"), "{text}");
    assert!(text.ends_with("in words that were there before."), "{text}");

    // The next message is another matter, whatever was said before.
    messages.push(json!({"role": "assistant", "content": [{"type": "text", "text": text}]}));
    messages.push(user("Thanks!"));
    let echo = ask(&server, &conversation(&messages)).await;
    assert!(echo.uses().is_empty() && echo.text().contains("which was “Thanks!”"), "{echo:?}");
    messages.pop();
    messages.push(user("And the folder?"));
    assert_eq!(ask(&server, &conversation(&messages)).await.uses().len(), 1, "it looks again");
}

#[tokio::test]
async fn an_empty_workspace_is_said_to_be_empty() {
    let server = stand_in().await;
    let mut messages = vec![user("read the workspace")];
    let first = ask(&server, &conversation(&messages)).await;
    messages.extend(results(&first, &[("No file matches `*`.\n", false)]));
    let text = ask(&server, &conversation(&messages)).await.text();
    assert!(text.starts_with("There are no files in the workspace.\n"), "{text}");
    messages.truncate(1);
    messages.extend(results(&first, &[("Cancelled.", true)]));
    let text = ask(&server, &conversation(&messages)).await.text();
    assert!(text.starts_with("The files could not be listed: Cancelled."), "{text}");
}

#[tokio::test]
async fn anything_else_is_answered_honestly() {
    let server = stand_in().await;
    let echo = ask(&server, &conversation(&[user(&format!("Tell me\na story {}", "x".repeat(500)))])).await;
    let text = echo.text();
    assert!(
        text.starts_with("I am a scripted stand-in, not a model: ") && text.contains("“Tell me a story xxx"),
        "{text}"
    );
    assert!(text.len() < 600, "{text}");
    let mut plain = conversation(&[user("Which files are there?")]);
    plain["tools"] = json!([]);
    plain["thinking"] = json!({"type": "disabled"});
    let plain = ask(&server, &plain).await;
    assert!(plain.uses().is_empty() && plain.text().starts_with(WHO), "it has no tool: {plain:?}");
    assert_eq!(plain.content.len(), 1, "it does not think where it shall not");
    let picture = json!({"role": "user", "content": [{"type": "image", "source": {}}]});
    assert!(ask(&server, &conversation(&[picture])).await.text().contains("nothing in words"));
}

#[tokio::test]
async fn it_has_the_rules_and_the_lists_of_the_real_one() {
    let server = stand_in().await;
    let mut body = conversation(&[user("hi")]);
    body["max_tokens"] = Value::Null;
    assert!(post(&server, MESSAGES, &body).await.starts_with("HTTP/1.1 400 "));
    body = conversation(&[user("hi")]);
    body["stream"] = json!(false);
    assert!(post(&server, MESSAGES, &body).await.contains("as a stream only"));
    let counted = post(&server, "/v1/messages/count_tokens", &body).await;
    assert!(counted.contains("{\"input_tokens\":"), "{counted}");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /v1/models?limit=1000 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut listed = String::new();
    stream.read_to_string(&mut listed).await.unwrap();
    assert!(listed.contains("\"id\":\"scripted-stand-in\"") && listed.contains("\"has_more\":false"), "{listed}");
    assert!(server.requests().is_empty(), "a server that runs for days keeps nothing");
}
