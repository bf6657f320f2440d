//! What is shown of an answer, whatever a gateway sends.

use serde_json::json;

use super::*;

fn event(name: &str, payload: Value) -> Event {
    serde_json::from_value(json!({"event": name, "payload": payload})).unwrap()
}

fn chat(payload: Value) -> Event {
    let mut whole = json!({"runId": "r", "sessionKey": "agent:main:main", "seq": 1});
    whole.as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
    event("chat", whole)
}

fn message(text: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": text}], "timestamp": 1})
}

fn tool(data: Value) -> Event {
    event("agent", json!({"runId": "r", "stream": "tool", "seq": 1, "ts": 1, "data": data}))
}

fn words(text: &str) -> Step {
    Step::Words(text.to_owned())
}

/// What stands on a screen after these events, a line break for each break.
fn screen(answer: &mut Answer, events: &[Event]) -> String {
    let mut shown = String::new();
    for step in events.iter().flat_map(|event| answer.hear(event)) {
        match step {
            Step::Words(words) => shown.push_str(&words),
            Step::Break if shown.is_empty() || shown.ends_with('\n') => {}
            Step::Break => shown.push('\n'),
            Step::Tool { name, input } => shown.push_str(&format!("[{name} {input}]\n")),
            Step::ToolFailed { name } => shown.push_str(&format!("[{name} failed]\n")),
        }
    }
    shown
}

fn shown(events: &[Event]) -> String {
    screen(&mut Answer::new("r"), events)
}

#[test]
fn words_are_shown_once_whichever_way_they_are_told() {
    let version_4 = [
        chat(json!({"state": "delta", "deltaText": "Hü", "message": message("Hü")})),
        chat(json!({"state": "delta", "deltaText": "llo 👩", "message": message("Hüllo 👩")})),
        chat(json!({"state": "delta", "deltaText": "\u{200d}👧!", "message": message("Hüllo 👩\u{200d}👧!")})),
        chat(json!({"state": "final", "message": message("Hüllo 👩\u{200d}👧!"), "usage": {"input": 3}})),
    ];
    assert_eq!(shown(&version_4), "Hüllo 👩\u{200d}👧!");
    let pieces_only = [
        chat(json!({"state": "delta", "deltaText": "Hü"})),
        chat(json!({"state": "delta", "deltaText": "llo"})),
        chat(json!({"state": "final", "message": message("Hüllo")})),
    ];
    assert_eq!(shown(&pieces_only), "Hüllo");
    let version_3 = [
        chat(json!({"state": "delta", "message": message("Hü")})),
        chat(json!({"state": "delta", "message": message("Hüllo")})),
        chat(json!({"state": "final", "message": message("Hüllo")})),
    ];
    assert_eq!(shown(&version_3), "Hüllo");
    let mut answer = Answer::new("r");
    assert_eq!(answer.hear(&version_4[0]), [words("Hü")]);
    assert_eq!(answer.hear(&version_4[3]), [words("llo 👩\u{200d}👧!")], "the end brings what was dropped");
    let ending = answer.ending().unwrap();
    assert_eq!((&ending.outcome, ending.usage.as_ref()), (&Outcome::Done, Some(&json!({"input": 3}))));
    assert_eq!((ending.text.as_str(), answer.session_key()), ("Hüllo 👩\u{200d}👧!", Some("agent:main:main")));
}

#[test]
fn another_message_begins_on_another_line() {
    let events = [
        chat(json!({"state": "delta", "deltaText": "I look.", "message": message("I look.")})),
        tool(json!({"phase": "start", "name": "glob", "toolCallId": "1", "args": {"pattern": "*.md", "n": 2}})),
        tool(json!({"phase": "start", "name": "glob", "toolCallId": "1", "args": {}})),
        tool(json!({"phase": "result", "name": "glob", "toolCallId": "1", "isError": false})),
        tool(json!({"phase": "result", "name": "read", "toolCallId": "2", "isError": true})),
        chat(json!({"state": "delta", "deltaText": "I look", "replace": true, "message": message("I look")})),
        chat(json!({"state": "delta", "deltaText": " again.", "message": message("I look again.")})),
        chat(json!({"state": "final", "message": message("I look again.")})),
    ];
    assert_eq!(shown(&events), "I look.\n[glob pattern=*.md n=2]\n[read failed]\nI look again.");
    // The same from a gateway that marks nothing, and from one that says the whole at the end alone.
    let unmarked = [events[0].clone(), events[1].clone(), chat(json!({"state": "delta", "deltaText": "Found."}))];
    assert_eq!(shown(&unmarked), "I look.\n[glob pattern=*.md n=2]\nFound.");
    let other = [events[0].clone(), chat(json!({"state": "delta", "message": message("Found.")}))];
    assert_eq!(shown(&other), "I look.\nFound.");
    let at_the_end = [events[0].clone(), chat(json!({"state": "final", "message": message("Found.")}))];
    assert_eq!(shown(&at_the_end), "I look.\nFound.");
}

#[test]
fn what_comes_late_or_belongs_elsewhere_changes_nothing() {
    let events = [
        chat(json!({"state": "delta", "seq": 5, "deltaText": "one two", "message": message("one two")})),
        chat(json!({"state": "delta", "seq": 3, "deltaText": "one", "message": message("one")})),
        chat(json!({"state": "delta", "seq": 3, "deltaText": "xx"})),
        chat(json!({"state": "delta", "seq": 6, "deltaText": "one", "message": message("one")})),
        chat(json!({"state": "delta", "runId": "other", "deltaText": "no", "message": message("no")})),
        chat(json!({"state": "final", "runId": "other", "message": message("no")})),
        chat(json!({"state": "status", "phase": "starting_model"})),
        event("tick", json!({"ts": 1})),
        event("agent", json!({"runId": "r", "stream": "assistant", "data": {"text": "no", "delta": "no"}})),
        chat(json!({"state": "final", "seq": 2, "message": message("one two")})),
        chat(json!({"state": "delta", "seq": 9, "deltaText": "no", "message": message("no")})),
        chat(json!({"state": "error", "errorMessage": "no"})),
    ];
    let mut answer = Answer::new("r");
    assert_eq!(screen(&mut answer, &events), "one two");
    assert_eq!(answer.ending().unwrap().outcome, Outcome::Done, "the first end counts");
}

#[test]
fn white_space_that_was_taken_off_is_no_other_message() {
    let delta = |text: &str| chat(json!({"state": "delta", "deltaText": text, "message": message(text)}));
    let done = |text: &str| chat(json!({"state": "final", "message": message(text)}));
    assert_eq!(shown(&[delta("\n\nDone.\n"), done("Done.")]), "\n\nDone.\n");
    assert_eq!(shown(&[delta("\nDone"), done("Done.")]), "\nDone.");
}

#[test]
fn every_end_is_what_it_says() {
    let end = |payload: Value| {
        let mut answer = Answer::new("r");
        answer.hear(&chat(json!({"state": "delta", "deltaText": "so far"})));
        let steps = answer.hear(&chat(payload));
        (answer.ending().cloned().unwrap(), steps)
    };
    let (aborted, steps) = end(json!({"state": "aborted", "stopReason": "rpc", "message": message("so far and on")}));
    assert_eq!((aborted.outcome, aborted.text.as_str()), (Outcome::Aborted("rpc".into()), "so far and on"));
    assert_eq!(steps, [words(" and on")]);
    let failed =
        json!({"state": "error", "errorMessage": "no key", "errorKind": "timeout", "message": message("⚠️ no key")});
    let (failed, steps) = end(failed);
    let outcome = Outcome::Failed { message: "no key".into(), kind: "timeout".into() };
    assert_eq!((failed.outcome, failed.text.as_str(), steps.as_slice()), (outcome, "so far", &[] as &[Step]));
    let (silent, _) = end(json!({"state": "final"}));
    assert_eq!((silent.outcome, silent.text.as_str()), (Outcome::Done, "so far"));
    let nothing = json!({"state": "final", "message": {"role": "assistant", "content": [], "usage": {"output": 1}}});
    let (nothing, _) = end(nothing);
    assert_eq!(nothing.usage, Some(json!({"output": 1})));
}

#[test]
fn an_end_that_was_stored_goes_on_from_what_was_shown_or_begins_again() {
    let mut answer = Answer::new("r");
    answer.hear(&chat(json!({"state": "delta", "deltaText": "The answer"})));
    let late = chat(json!({"state": "delta", "deltaText": " with a gap", "message": message("with a gap")}));
    assert_eq!(answer.hear_end(&late), []);
    let stored = Ending { outcome: Outcome::Done, text: "The answer is 7.".into(), usage: None };
    assert_eq!(answer.end(stored.clone()), [words(" is 7.")]);
    assert_eq!(answer.end(stored.clone()), [], "it ends once");
    let mut answer = Answer::new("r");
    answer.hear(&chat(json!({"state": "delta", "deltaText": "The answer"})));
    answer.begin_again();
    assert_eq!(answer.end(stored), [words("The answer is 7.")]);
    let mut answer = Answer::new("r");
    answer.hear(&chat(json!({"state": "delta", "deltaText": "I look."})));
    assert_eq!(answer.hear_end(&chat(json!({"state": "final", "message": message("7")}))), [Step::Break, words("7")]);
}

#[test]
fn a_tool_is_one_short_line() {
    let input =
        |args: Value| match &Answer::new("r").hear(&tool(json!({"phase": "start", "name": "n", "args": args})))[..] {
            [Step::Break, Step::Tool { input, .. }] => input.clone(),
            other => panic!("{other:?}"),
        };
    assert_eq!(input(json!({"path": "a\nb\u{1b}[31m", "deep": {"x": [1]}})), "path=a\\nb\\u{1b}[31m deep={\"x\":[1]}");
    assert_eq!(
        (input(Value::Null), input(json!({})), input(json!("all"))),
        (String::new(), String::new(), "all".into())
    );
    let long = input(json!({"text": "ü".repeat(500)}));
    assert_eq!((long.chars().count(), long.ends_with('…')), (MAX_INPUT_CHARS + 1, true));
}

/// Any value in any place of any event is taken, and what was shown still ends with what the end says.
#[test]
fn garbage_is_taken_for_nothing() {
    let garbage = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("\u{0}\u{202e}ü"),
        json!([]),
        json!([[], {"type": "text"}, {"type": "text", "text": 7}, "x"]),
        json!({}),
        json!({"content": {"content": []}}),
    ];
    let events = [
        chat(json!({"state": "delta", "deltaText": "a", "replace": false, "message": message("a")})),
        chat(json!({"state": "error", "errorMessage": "no", "errorKind": "timeout", "message": message("a")})),
        chat(json!({"state": "aborted", "stopReason": "rpc", "message": message("a"), "usage": {}})),
        tool(json!({"phase": "start", "name": "n", "toolCallId": "1", "args": {"a": 1}, "isError": false})),
    ];
    let places =
        ["", "/runId", "/seq", "/state", "/sessionKey", "/deltaText", "/replace", "/message", "/message/content"];
    let more = [
        "/message/content/0",
        "/errorMessage",
        "/errorKind",
        "/stopReason",
        "/usage",
        "/stream",
        "/data",
        "/data/phase",
    ];
    let tools = ["/data/name", "/data/toolCallId", "/data/args", "/data/isError"];
    for event in &events {
        for place in places.iter().chain(&more).chain(&tools) {
            for value in &garbage {
                let mut bad = event.clone();
                let Some(at) = bad.payload.pointer_mut(place) else { continue };
                *at = value.clone();
                let mut answer = Answer::new("r");
                let mut seen = screen(&mut answer, &[bad]);
                if answer.ending().is_none() {
                    seen.push_str(&screen(
                        &mut answer,
                        &[chat(json!({"state": "final", "message": message("the end")}))],
                    ));
                    assert!(seen.ends_with("the end"), "{place} {value}: {seen:?}");
                    assert_eq!(answer.ending().unwrap().text, "the end", "{place} {value}");
                }
            }
        }
    }
}
