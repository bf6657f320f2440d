//! Turns against a scripted host in memory.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::scripted::{Host, Said, Scene, is_model_call, last_message, tool_use};
use crate::link::Received;

#[test]
fn words_are_shown_as_they_come_and_recorded_whole() {
    let said = Scene::new().run(|message, lines| {
        if is_model_call(message) {
            lines.event(message, json!({"type": "thinking", "delta": "hm"}));
            lines.event(message, json!({"type": "text", "delta": "Hel"}));
            lines.event(message, json!({"type": "text", "delta": "lo"}));
            lines.event(message, json!({"type": "block", "block": {"type": "text", "text": "Hello"}}));
            lines.event(message, json!({"type": "block", "block": {"type": "text", "text": " whole"}}));
            lines.note("_leanclaw/model/event", json!({"callId": "another", "event": {"type": "text", "delta": "no"}}));
            lines.event(message, json!({"type": "finished", "reason": "endTurn", "usage": {"input": 3, "output": 2}}));
            lines.result(message, json!({}));
        }
    });
    assert_eq!(said.stop_reason(), "end_turn");
    assert_eq!(said.shown_text(), "Hello whole");
    assert_eq!(said.updates("agent_thought_chunk")[0]["content"]["text"], "hm");
    let text = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(
        said.recorded(),
        [
            &json!({"role": "user", "content": [text("hello")]}),
            &json!({"role": "assistant", "content": [text("Hello"), text(" whole")]}),
        ]
    );
    assert_eq!(said.report()["rounds"], 1);
    assert_eq!(said.report()["usage"]["input"], 3);
    let call = &said.of("_leanclaw/model/stream")[0]["params"]["call"];
    assert!(call["system"].as_str().unwrap().starts_with("Be good."));
    let names: Vec<&str> =
        call["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["read", "write", "edit", "glob", "grep", "bash", "lookup"]);
}

/// Three rounds: five uses at once, one more, and the end.
fn three_rounds(scene: &Scene) -> Said {
    let mut asked = Vec::new();
    let mut round = 0;
    scene.run(|message, lines| match message["method"].as_str() {
        Some("_leanclaw/model/stream") => {
            round += 1;
            let uses = json!([
                {"type": "text", "text": "Looking."},
                tool_use("1", "lookup", json!({"q": 1})),
                tool_use("2", "read", json!({"path": "a"})),
                tool_use("3", "lookup", json!({"q": 2})),
                tool_use("4", "nothing", json!({})),
                tool_use("5", "read", json!({"file": "a"})),
            ]);
            let write = tool_use("6", "write", json!({"path": "b", "content": "new"}));
            match round {
                1 => lines.answer(message, uses, "toolUse"),
                2 => lines.answer(message, json!([write]), "toolUse"),
                _ => lines.answer(message, json!([{"type": "text", "text": " Done."}]), "endTurn"),
            }
        }
        Some("_leanclaw/tool/call") => {
            asked.push(message.clone());
            // Answered only once both are asked, the later one first, and that one with an error.
            if asked.len() == 2 {
                lines.error(
                    &asked[1],
                    -1,
                    "no",
                    json!({"code": "denied", "message": "Not allowed.", "hints": ["ask"]}),
                );
                lines.result(&asked[0], json!({"content": [{"type": "text", "text": "found"}]}));
            }
        }
        _ => {}
    })
}

#[test]
fn three_rounds_with_parallel_uses_give_one_result_each_in_order() {
    let scene = Scene::new();
    scene.put("a", "inside a\n");
    let said = three_rounds(&scene);
    assert_eq!(said.stop_reason(), "end_turn");
    assert_eq!(said.report()["rounds"], 3);
    assert_eq!(said.report()["usage"]["input"], 30);
    let recorded = said.recorded();
    let told: Vec<(&str, bool, &str)> = recorded[2]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            let text = result["content"][0]["text"].as_str().unwrap();
            (result["toolUseId"].as_str().unwrap(), result["isError"].as_bool().unwrap(), text)
        })
        .collect();
    assert_eq!(told[0], ("1", false, "found"));
    assert_eq!(told[1], ("2", false, "     1\tinside a\n"));
    assert_eq!(told[2], ("3", true, "Not allowed.\nhint: ask"));
    assert!(told[3].0 == "4" && told[3].1 && told[3].2.contains("There is no tool `nothing`"));
    assert!(told[4].0 == "5" && told[4].1 && told[4].2.contains("unknown field `file`"));
    assert_eq!(told.len(), 5);
    assert_eq!(std::fs::read_to_string(scene.folder.path().join("b")).unwrap(), "new");
}

#[test]
fn an_input_that_cannot_be_read_runs_nothing_and_is_said_to_the_model() {
    let scene = Scene::new();
    let mut round = 0;
    let said = scene.run(|message, lines| {
        if is_model_call(message) {
            round += 1;
            let broken = json!({"type": "invalidToolUse", "id": "1", "name": "write", "text": "{\"path\":", "problem": "it ends too early"});
            match round {
                1 => lines.answer(message, json!([broken, tool_use("2", "glob", json!({"pattern": "*"}))]), "toolUse"),
                _ => lines.answer(message, json!([{"type": "text", "text": "Sorry."}]), "endTurn"),
            }
        }
    });
    assert_eq!(said.stop_reason(), "end_turn");
    let results = &said.recorded()[2]["content"];
    assert_eq!((&results[0]["toolUseId"], &results[0]["isError"]), (&json!("1"), &json!(true)));
    assert!(results[0]["content"][0]["text"].as_str().unwrap().contains("it ends too early"), "{results}");
    assert_eq!((&results[1]["toolUseId"], &results[1]["isError"]), (&json!("2"), &json!(false)));
}

#[test]
fn those_who_look_on_see_what_tools_do() {
    let scene = Scene::new();
    scene.put("a", "inside a\n");
    let said = three_rounds(&scene);
    let first = said.updates("tool_call")[1];
    assert_eq!((&first["title"], &first["kind"]), (&json!("read a"), &json!("read")));
    assert!(first["locations"][0]["path"].as_str().unwrap().ends_with("/a"));
    let updates = said.updates("tool_call_update");
    let statuses = |id: &str| -> Vec<&str> {
        let of_id = updates.iter().filter(|update| update["toolCallId"] == id);
        of_id.map(|update| update["status"].as_str().unwrap()).collect()
    };
    assert_eq!(statuses("1"), ["in_progress", "completed"]);
    assert_eq!(statuses("3"), ["in_progress", "failed"]);
    assert_eq!(statuses("4"), ["failed"]);
    let mut contents = updates.iter().flat_map(|update| update["content"].as_array().into_iter().flatten());
    assert!(contents.any(|content| content["type"] == "diff" && content["newText"] == "new"));
}

/// What is stored comes before what is done about it.
#[test]
fn everything_is_recorded_before_it_is_acted_on() {
    let mut round = 0;
    let said = Scene::new().run(|message, lines| match message["method"].as_str() {
        Some("_leanclaw/model/stream") => {
            round += 1;
            let answer = if round == 1 { json!([tool_use("1", "lookup", json!({}))]) } else { json!([]) };
            lines.answer(message, answer, if round == 1 { "toolUse" } else { "endTurn" });
        }
        Some("_leanclaw/tool/call") => lines.result(message, json!({"content": []})),
        _ => {}
    });
    let order: Vec<&str> =
        said.0.iter().filter_map(|line| line["method"].as_str()).filter(|name| name.starts_with('_')).collect();
    let append = "_leanclaw/transcript/append";
    let stream = "_leanclaw/model/stream";
    assert_eq!(order, [append, stream, append, "_leanclaw/tool/call", append, stream]);
}

#[test]
fn a_transcript_that_cannot_be_written_stops_the_turn_before_it_acts() {
    let mut scene = Scene::new();
    scene.stores = false;
    let said = scene.run(|message, lines| match message["method"].as_str() {
        Some("_leanclaw/transcript/append") => lines.error(message, -1, "disk full", Value::Null),
        Some(other) => panic!("{other} although nothing could be stored"),
        None => {}
    });
    let error = &said.response("p1")["error"];
    assert_eq!(error["data"]["message"], "The transcript could not be written: disk full");
}

#[test]
fn a_cancel_during_the_answer_keeps_the_words_that_came() {
    let said = Scene::new().run_prompts(&["one", "two"], |message, lines| {
        if !is_model_call(message) {
            return;
        }
        if last_message(message)["content"][0]["text"] == "two" {
            assert_eq!(message["params"]["call"]["messages"][1]["content"][0]["text"], "half an ans");
            return lines.answer(message, json!([{"type": "text", "text": "ok"}]), "endTurn");
        }
        lines.event(message, json!({"type": "block", "block": tool_use("1", "bash", json!({"command": "touch x"}))}));
        lines.event(message, json!({"type": "text", "delta": "half an ans"}));
        lines.cancel();
        lines.event(message, json!({"type": "text", "delta": "wer"}));
        lines.error(message, -1, "cancelled", Value::Null);
    });
    assert_eq!(said.stop_reason(), "cancelled");
    assert_eq!(said.of("_leanclaw/model/cancel").len(), 1);
    let recorded = said.recorded();
    assert_eq!(recorded[1], &json!({"role": "assistant", "content": [{"type": "text", "text": "half an ans"}]}));
    assert_eq!(said.response("p2")["result"]["stopReason"], "end_turn");
}

#[test]
fn a_cancel_during_bash_kills_it_and_gives_every_use_a_result() {
    let started = std::time::Instant::now();
    let said = Scene::new().run(|message, lines| {
        if is_model_call(message) {
            let uses = json!([
                tool_use("1", "bash", json!({"command": "echo begun; sleep 60"})),
                tool_use("2", "lookup", json!({})),
                tool_use("3", "bash", json!({"command": "echo never"})),
            ]);
            lines.answer(message, uses, "toolUse");
        }
        let update = &message["params"]["update"];
        if update["toolCallId"] == "1" && update["status"] == "in_progress" {
            lines.cancel();
        }
    });
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!(said.stop_reason(), "cancelled");
    let recorded = said.recorded();
    let results = recorded[2]["content"].as_array().unwrap();
    let texts: Vec<&str> = results.iter().map(|result| result["content"][0]["text"].as_str().unwrap()).collect();
    assert!(texts[0].ends_with("[killed: the turn was cancelled]"), "{texts:?}");
    assert!(texts[1].starts_with("Cancelled: it may have done"), "{texts:?}");
    assert_eq!(texts[2], "Cancelled before it was run.");
    assert_eq!(said.of("_leanclaw/model/stream").len(), 1);
}

#[test]
fn follow_ups_come_with_results_or_begin_another_round() {
    let mut round = 0;
    let said = Scene::new().run(|message, lines| match message["method"].as_str() {
        Some("_leanclaw/model/stream") => {
            round += 1;
            match round {
                1 => lines.answer(message, json!([tool_use("1", "lookup", json!({}))]), "toolUse"),
                2 => {
                    assert_eq!(last_message(message)["content"][1]["text"], "and this");
                    lines.follow_up("one more");
                    lines.answer(message, json!([{"type": "text", "text": "a"}]), "endTurn");
                }
                _ => {
                    assert_eq!(
                        last_message(message),
                        &json!({"role": "user", "content": [{"type": "text", "text": "one more"}]})
                    );
                    lines.answer(message, json!([{"type": "text", "text": "b"}]), "endTurn");
                }
            }
        }
        Some("_leanclaw/tool/call") => {
            lines.follow_up("and this");
            lines.note("_leanclaw/turn/message", json!({"sessionId": "another", "text": "not mine"}));
            lines.result(message, json!({"content": [{"type": "text", "text": "r"}]}));
        }
        _ => {}
    });
    assert_eq!(said.stop_reason(), "end_turn");
    assert_eq!((&said.report()["rounds"], &said.report()["followUps"]), (&json!(3), &json!(2)));
}

#[test]
fn what_was_not_taken_in_is_not_counted() {
    let said = Scene::new().run(|message, lines| {
        if is_model_call(message) {
            lines.follow_up("too late");
            lines.cancel();
        }
    });
    assert_eq!((said.stop_reason(), &said.report()["followUps"]), ("cancelled", &json!(0)));
    assert_eq!(said.recorded().len(), 1);
}

/// Runs one `write` that needs permission and answers the question with `outcome`.
fn ask_permission(outcome: Value) -> (Scene, Said) {
    let mut scene = Scene::new();
    scene.setup["askBefore"] = json!(["write"]);
    let mut round = 0;
    let said = scene.run(|message, lines| match message["method"].as_str() {
        Some("_leanclaw/model/stream") => {
            round += 1;
            let write = tool_use("1", "write", json!({"path": "x", "content": "y"}));
            let glob = tool_use("2", "glob", json!({"pattern": "*"}));
            let answer = if round == 1 { json!([write, glob]) } else { json!([]) };
            lines.answer(message, answer, if round == 1 { "toolUse" } else { "endTurn" });
        }
        Some("session/request_permission") => match &outcome {
            Value::Null => lines.error(message, -1, "nobody is there", Value::Null),
            outcome => lines.result(message, json!({"outcome": outcome})),
        },
        _ => {}
    });
    (scene, said)
}

#[test]
fn only_a_clear_yes_allows() {
    for (outcome, words) in [
        (json!({"outcome": "selected", "optionId": "reject-once"}), "Permission was denied"),
        (json!({"outcome": "selected", "optionId": "whatever"}), "Permission was denied"),
        (json!({"outcome": "cancelled"}), "Cancelled before it was run."),
        (json!({}), "Permission could not be asked for"),
        (Value::Null, "Permission could not be asked for: nobody is there"),
    ] {
        let (scene, said) = ask_permission(outcome.clone());
        assert!(!scene.folder.path().join("x").exists(), "{outcome}");
        let recorded = said.recorded();
        let result = &recorded[2]["content"][0];
        assert!(
            result["isError"] == true && result["content"][0]["text"].as_str().unwrap().starts_with(words),
            "{result}"
        );
        assert_eq!(recorded[2]["content"][1]["isError"], false, "the other one runs");
        assert_eq!(said.of("session/request_permission").len(), 1);
        assert_eq!(said.stop_reason(), "end_turn");
    }
    for option in ["allow-once", "allow-always"] {
        let (scene, said) = ask_permission(json!({"outcome": "selected", "optionId": option}));
        assert!(scene.folder.path().join("x").exists());
        let asked = &said.of("session/request_permission")[0]["params"];
        assert_eq!(asked["toolCall"]["toolCallId"], "1");
        assert_eq!(asked["toolCall"]["rawInput"]["path"], "x");
    }
}

#[test]
fn the_limit_of_rounds_ends_with_words_and_whole_results() {
    let mut scene = Scene::new();
    scene.setup["maxRounds"] = json!(2);
    let said = scene.run(|message, lines| match message["method"].as_str() {
        Some("_leanclaw/model/stream") => {
            lines.answer(message, json!([tool_use("1", "lookup", json!({}))]), "toolUse");
        }
        Some("_leanclaw/tool/call") => lines.result(message, json!({"content": []})),
        _ => {}
    });
    assert_eq!(said.stop_reason(), "max_turn_requests");
    assert_eq!(said.of("_leanclaw/model/stream").len(), 2);
    assert_eq!(said.of("_leanclaw/tool/call").len(), 1, "nobody would see the result of the last one");
    assert!(said.shown_text().starts_with("I stopped after 2 model calls"));
    let recorded = said.recorded();
    assert!(recorded[4]["content"][0]["content"][0]["text"].as_str().unwrap().starts_with("Not run:"));
    assert_eq!(recorded[5]["role"], "assistant");
}

#[test]
fn other_ends_are_told_apart() {
    let one = |reason: &'static str, blocks: Value| {
        Scene::new().run(move |message, lines| {
            if is_model_call(message) {
                lines.answer(message, blocks.clone(), reason);
            }
        })
    };
    let text = json!({"type": "text", "text": "some"});
    let full = one("contextFull", json!([]));
    assert_eq!((full.stop_reason(), &full.report()["contextFull"]), ("max_tokens", &json!(true)));
    assert!(full.shown_text().contains("too long for the model"));
    let cut = one("maxTokens", json!([text, tool_use("1", "bash", json!({"command": "touch x"}))]));
    assert_eq!((cut.stop_reason(), &cut.report()["contextFull"]), ("max_tokens", &json!(false)));
    assert_eq!(cut.recorded()[1]["content"], json!([text]));
    assert!(cut.shown_text().ends_with("[The answer was cut off at 100 tokens; the tools it asked for were not run.]"));
    assert_eq!(one("refused", json!([text])).stop_reason(), "refusal");
    assert_eq!(one("somethingNew", json!([text])).stop_reason(), "end_turn");
    assert_eq!(one("toolUse", json!([text])).stop_reason(), "end_turn");
}

#[test]
fn a_pause_goes_on_with_the_answer() {
    let mut round = 0;
    let said = Scene::new().run(|message, lines| {
        if is_model_call(message) {
            round += 1;
            let kept = json!({"type": "kept", "provider": "p", "raw": "{}"});
            if round == 1 {
                lines.answer(message, json!([kept]), "paused");
            } else {
                assert_eq!(last_message(message), &json!({"role": "assistant", "content": [kept]}));
                lines.answer(message, json!([{"type": "text", "text": "x"}]), "endTurn");
            }
        }
    });
    assert_eq!((said.stop_reason(), &said.report()["rounds"]), ("end_turn", &json!(2)));
}

#[test]
fn an_error_of_the_model_is_the_prompts_error_with_the_failure_in_it() {
    let said = Scene::new().run(|message, lines| {
        if is_model_call(message) {
            lines.event(message, json!({"type": "text", "delta": "so far"}));
            let failure =
                json!({"code": "budget-exhausted", "message": "No tokens left.", "hints": ["leanclaw budget set"]});
            lines.error(message, -32000, "whatever", failure);
        }
    });
    let error = &said.response("p1")["error"];
    assert_eq!(error["message"], "No tokens left.");
    assert_eq!(error["data"]["code"], "budget-exhausted");
    assert_eq!(error["data"]["hints"], json!(["leanclaw budget set"]));
    assert_eq!(error["data"]["extra"]["rounds"], 1);
    assert_eq!(said.recorded()[1]["content"][0]["text"], "so far");
}

#[test]
fn an_answer_without_its_end_is_an_error_and_its_tools_do_not_run() {
    let said = Scene::new().run(|message, lines| {
        if is_model_call(message) {
            lines.event(message, json!({"type": "block", "block": tool_use("1", "lookup", json!({}))}));
            lines.result(message, json!({}));
        }
    });
    let error = &said.response("p1")["error"];
    assert_eq!((&error["data"]["code"], &error["data"]["retryable"]), (&json!("unavailable"), &json!(true)));
    assert!(said.of("_leanclaw/tool/call").is_empty());
}

#[test]
fn uses_that_a_crash_left_without_results_get_some_with_the_next_prompt() {
    let mut scene = Scene::new();
    scene.setup["history"] = json!([
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {"role": "assistant", "content": [tool_use("9", "bash", json!({"command": "x"}))]},
    ]);
    let said = scene.run(|message, lines| {
        if is_model_call(message) {
            lines.answer(message, json!([]), "endTurn");
        }
    });
    let content = &said.recorded()[0]["content"];
    assert_eq!((&content[0]["toolUseId"], &content[0]["isError"]), (&json!("9"), &json!(true)));
    assert_eq!(content[1]["text"], "hello");
}

#[test]
fn a_second_prompt_during_a_turn_is_refused_and_other_requests_wait() {
    let said = Scene::new().run(|message, lines| {
        if is_model_call(message) {
            let prompt = json!({"sessionId": "session-1", "prompt": [{"type": "text", "text": "x"}]});
            lines.0.push(json!({"jsonrpc": "2.0", "id": "early", "method": "session/prompt", "params": prompt}));
            lines.0.push(json!({"jsonrpc": "2.0", "id": "later", "method": "nothing"}));
            lines.answer(message, json!([]), "endTurn");
        }
    });
    assert_eq!(said.response("early")["error"]["code"], -32600);
    assert_eq!(said.response("later")["error"]["code"], -32601);
    let at = |id: &str| said.0.iter().position(|line| line["id"] == id).unwrap();
    assert!(at("early") < at("p1") && at("p1") < at("later"));
}

#[test]
fn requests_that_do_not_fit_are_answered_and_garbage_ends_nothing() {
    let mut waiting = VecDeque::new();
    let mut line = |text: &str| waiting.push_back(Received::Line(text.as_bytes().to_vec()));
    line("garbage");
    line("[1,2]");
    line(r#"{"jsonrpc":"2.0","id":1,"method":"session/new","params":{"cwd":"/","mcpServers":[]}}"#);
    line(r#"{"jsonrpc":"2.0","id":2,"method":"initialize","params":{}}"#);
    line(r#"{"jsonrpc":"2.0","id":3,"method":"initialize","params":{"protocolVersion":7}}"#);
    line(r#"{"jsonrpc":"2.0","id":4,"method":"session/new","params":{"cwd":"/","mcpServers":[]}}"#);
    line(
        r#"{"jsonrpc":"2.0","id":5,"method":"session/new","params":{"cwd":"/","mcpServers":[],"_meta":{"leanclaw":{"model":"m"}}}}"#,
    );
    line(r#"{"jsonrpc":"2.0","id":6,"method":"session/prompt","params":{"sessionId":"none","prompt":[]}}"#);
    line(r#"{"jsonrpc":"2.0","method":"unknown/notification"}"#);
    line(r#"{"jsonrpc":"2.0","id":99,"result":{}}"#);
    line(r#"{"jsonrpc":"2.0","id":7,"method":"session/load","params":{}}"#);
    waiting.push_back(Received::TooLong);
    let mut host = Host { waiting, said: Vec::new(), react: Box::new(|_, _| {}), stores: true };
    crate::run(&mut host);
    let codes: Vec<String> =
        host.said.iter().map(|line| format!("{}: {}", line["id"], line["error"]["code"])).collect();
    let expected = [
        "null: -32700",
        "null: -32600",
        "1: -32600",
        "2: -32602",
        "3: null",
        "4: -32602",
        "5: -32602",
        "6: -32602",
        "7: -32601",
        "null: -32600",
    ];
    assert_eq!(codes, expected);
    assert_eq!(host.said[4]["result"]["protocolVersion"], 1);
    assert_eq!(host.said[4]["result"]["agentCapabilities"]["loadSession"], false);
    assert!(host.said[5]["error"]["message"].as_str().unwrap().contains("params._meta.leanclaw is missing"));
    assert!(host.said[6]["error"]["message"].as_str().unwrap().contains("missing field `maxTokens`"));
}
