//! `leanclaw chat` against a gateway that says what each test scripts: what is printed where, what is sent, how it ends.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::support::{Peer, Place, Run, ScriptedGateway, run, run_at_terminal, text, within};

fn message(text: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": text}], "timestamp": 1})
}

/// An event of a run.
async fn chat(peer: &mut Peer, run: &str, more: Value) {
    let mut payload = json!({"runId": run, "sessionKey": "agent:main:main", "seq": 1});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    peer.event("chat", payload).await;
}

async fn tool(peer: &mut Peer, run: &str, data: Value) {
    let payload =
        json!({"runId": run, "sessionKey": "agent:main:main", "seq": 1, "ts": 1, "stream": "tool", "data": data});
    peer.event("agent", payload).await;
}

/// Takes the message on; its run, and what was asked.
async fn taken(peer: &mut Peer) -> (String, Value) {
    let request = peer.request("chat.send").await;
    let run = text(&request["params"]["idempotencyKey"]).to_owned();
    peer.answer(&request, json!({"runId": run, "status": "started"})).await;
    (run, request["params"].clone())
}

/// Runs `leanclaw chat` with the gateway that follows these scripts.
async fn chatted<Served>(arguments: &[&str], script: impl Fn(usize, Peer) -> Served + Send + 'static) -> Run
where
    Served: Future<Output = ()> + Send,
{
    let gateway = ScriptedGateway::start(script).await;
    let arguments = [&["chat", "--url", gateway.url.as_str(), "--token", "t"], arguments].concat();
    let ended = Place::empty().run(&arguments).await;
    gateway.end().await;
    ended
}

#[tokio::test]
async fn an_answer_is_printed_as_it_is_written_with_its_tools_beside_it() {
    let ended = chatted(&["hi"], |_, mut peer| async move {
        let connect = peer.welcome().await;
        assert_eq!((&connect["caps"], &connect["auth"]["token"]), (&json!(["tool-events"]), &json!("t")));
        let (run, params) = taken(&mut peer).await;
        assert_eq!(params, json!({"sessionKey": "main", "message": "hi", "idempotencyKey": run}));
        assert_eq!(run.len(), 36, "a UUID");
        chat(&mut peer, &run, json!({"state": "delta", "deltaText": "I l", "message": message("I l")})).await;
        chat(&mut peer, "another", json!({"state": "final", "message": message("no")})).await;
        chat(&mut peer, &run, json!({"state": "delta", "deltaText": "ook.", "message": message("I look.")})).await;
        let args = json!({"pattern": "*\u{1b}[31m"});
        tool(&mut peer, &run, json!({"phase": "start", "name": "glob", "toolCallId": "1", "args": args})).await;
        tool(&mut peer, &run, json!({"phase": "result", "name": "glob", "toolCallId": "1", "isError": true})).await;
        let other = json!({"state": "delta", "deltaText": "Ü\u{7}", "replace": true, "message": message("Ü\u{7}")});
        chat(&mut peer, &run, other).await;
        chat(&mut peer, &run, json!({"state": "final", "message": message("Ü\u{7} and 漢.")})).await;
        peer.gone().await;
    })
    .await;
    assert_eq!(ended.err, "· glob pattern=*\\u{1b}[31m\n· glob failed\n");
    assert_eq!(ended.ok(), "I look.\nÜ\\u{7} and 漢.\n");
}

#[tokio::test]
async fn a_program_gets_one_object() {
    let script = |_, mut peer: Peer| async move {
        peer.welcome().await;
        let (run, params) = taken(&mut peer).await;
        let expected = json!({
            "sessionKey": "agent:x:y", "message": "two\nlines", "idempotencyKey": run, "thinking": "low",
        });
        assert_eq!(params, expected);
        chat(&mut peer, &run, json!({"state": "delta", "deltaText": "a", "message": message("a")})).await;
        tool(&mut peer, &run, json!({"phase": "start", "name": "glob", "toolCallId": "1"})).await;
        chat(&mut peer, &run, json!({"state": "final", "message": message("b\u{1b}"), "usage": {"output": 2}})).await;
        peer.gone().await;
    };
    let gateway = ScriptedGateway::start(script).await;
    let place = Place::empty();
    std::fs::write(place.work().join("message"), "two\nlines\n").unwrap();
    let arguments = ["chat", "--url", &gateway.url, "--session", "agent:x:y", "--thinking", "low", "--json"];
    let mut command = place.command(&arguments);
    command.stdin(std::fs::File::open(place.work().join("message")).unwrap());
    let ended = run(command).await;
    gateway.end().await;
    assert_eq!(ended.err, "");
    let object = ended.json();
    assert!(object["runId"].is_string(), "{object}");
    let expected = json!({
        "runId": object["runId"], "sessionKey": "agent:main:main", "status": "ok", "text": "b\u{1b}", "usage": {"output": 2},
    });
    assert_eq!(object, expected);
}

#[tokio::test]
async fn what_was_typed_wrong_is_said_before_anybody_is_asked() {
    let place = Place::empty();
    let empty = place.run(&["chat", "--url", "ws://127.0.0.1:9"]).await.failed(1);
    assert!(empty.contains("there is no message") && empty.contains("hint: leanclaw chat \""), "{empty}");
    let level = place.run(&["chat", "hi", "--thinking", "lots"]).await.failed(2);
    assert!(level.contains("adaptive"), "{level}");
}

#[tokio::test]
async fn a_failure_says_why_and_what_helps() {
    let failing = |more: Value| {
        move |_, mut peer: Peer| {
            let more = more.clone();
            async move {
                peer.welcome().await;
                let (run, _) = taken(&mut peer).await;
                chat(&mut peer, &run, json!({"state": "delta", "deltaText": "half"})).await;
                chat(&mut peer, &run, more).await;
                peer.gone().await;
            }
        }
    };
    let error = json!({"state": "error", "errorMessage": "no key is set\nhint: set one", "errorKind": "rate_limit"});
    let failed = chatted(&["hi"], failing(error.clone())).await;
    assert_eq!((failed.status.code(), failed.out.as_str()), (Some(1), "half\n"));
    let said =
        "error: the agent could not answer: no key is set\nhint: set one\nhint: the model's provider takes no more";
    assert!(failed.err.starts_with(said), "{}", failed.err);
    let failed = chatted(&["hi", "--json"], failing(error)).await;
    let object: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!((failed.status.code(), &object["status"], &object["text"]), (Some(1), &json!("error"), &json!("half")));
    assert!(failed.err.contains("no key is set"), "{}", failed.err);
    let aborted = chatted(&["hi"], failing(json!({"state": "aborted", "stopReason": "timeout"}))).await;
    assert_eq!((aborted.status.code(), aborted.out.as_str()), (Some(1), "half\n"));
    assert_eq!(aborted.err, "error: the answer was ended before it was whole: its time was over\n");
    let refused = chatted(&["hi"], |_, mut peer| async move {
        peer.welcome().await;
        let request = peer.request("chat.send").await;
        peer.refuse(&request, json!({"code": "FORBIDDEN", "message": "missing scope: operator.write"})).await;
        peer.gone().await;
    })
    .await
    .failed(1);
    assert!(refused.contains("missing scope: operator.write (FORBIDDEN)\nhint: "), "{refused}");
}

#[tokio::test]
async fn a_message_that_only_stops_runs_is_no_run() {
    let ended = chatted(&["stop"], |_, mut peer| async move {
        peer.welcome().await;
        let request = peer.request("chat.send").await;
        peer.answer(&request, json!({"ok": true, "aborted": true, "runIds": ["a", "b"]})).await;
        peer.gone().await;
    })
    .await;
    assert_eq!(ended.ok(), "2 answers were ended.\n");
}

/// What was shown before is shown again as a whole, and what the transcript has of other messages is not shown at all.
#[tokio::test]
async fn a_connection_that_is_lost_costs_no_answer() {
    let ended = chatted(&["hi"], |connection, mut peer| async move {
        peer.welcome().await;
        if connection == 0 {
            let (run, _) = taken(&mut peer).await;
            chat(&mut peer, &run, json!({"state": "delta", "deltaText": "The answer"})).await;
            return;
        }
        let waited = peer.request("agent.wait").await;
        let run = text(&waited["params"]["runId"]).to_owned();
        chat(&mut peer, &run, json!({"state": "delta", "deltaText": " with a gap"})).await;
        peer.answer(&waited, json!({"runId": run, "status": "timeout"})).await;
        let history = peer.request("chat.history").await;
        let asked = json!({"role": "user", "content": "hi", "idempotencyKey": run});
        peer.answer(&history, json!({"sessionKey": "main", "messages": [message("no"), asked]})).await;
        let waited = peer.request("agent.wait").await;
        peer.answer(&waited, json!({"runId": run, "status": "ok", "endedAt": 2})).await;
        let history = peer.request("chat.history").await;
        let messages = json!([message("no"), asked, message("I look."), message("The answer is 7.")]);
        peer.answer(&history, json!({"sessionKey": "main", "messages": messages})).await;
        peer.gone().await;
    })
    .await;
    let said =
        (ended.err.contains("was lost. Connecting again"), ended.err.contains("Connected again. The answer comes"));
    assert_eq!(said, (true, true), "{}", ended.err);
    assert_eq!(ended.ok(), "The answer\nThe answer is 7.\n");
}

#[tokio::test]
async fn the_end_of_an_answer_is_heard_after_a_loss_too() {
    let ended = chatted(&["hi"], |connection, mut peer| async move {
        peer.welcome().await;
        if connection == 0 {
            taken(&mut peer).await;
            return;
        }
        let waited = peer.request("agent.wait").await;
        let run = text(&waited["params"]["runId"]).to_owned();
        chat(&mut peer, &run, json!({"state": "final", "message": message("7")})).await;
        peer.answer(&waited, json!({"runId": run, "status": "timeout"})).await;
        let history = peer.request("chat.history").await;
        peer.answer(&history, json!({"sessionKey": "main", "messages": []})).await;
        peer.gone().await;
    })
    .await;
    assert_eq!(ended.ok(), "7\n");
}

#[tokio::test]
async fn a_message_is_sent_again_under_its_name_when_nobody_said_it_was_taken() {
    let (sender, mut names) = tokio::sync::mpsc::unbounded_channel();
    let ended = chatted(&["hi"], move |connection, mut peer| {
        let sender = sender.clone();
        async move {
            peer.welcome().await;
            if connection == 0 {
                let request = peer.request("chat.send").await;
                sender.send(request["params"].clone()).unwrap();
                return;
            }
            let (run, params) = taken(&mut peer).await;
            sender.send(params).unwrap();
            chat(&mut peer, &run, json!({"state": "final", "message": message("once")})).await;
            peer.gone().await;
        }
    })
    .await;
    assert!(ended.err.contains("sent again under the same name"), "{}", ended.err);
    assert_eq!(ended.ok(), "once\n");
    assert_eq!(names.recv().await.unwrap(), names.recv().await.unwrap());
}

#[tokio::test]
async fn a_gateway_that_forgot_the_message_is_not_waited_for() {
    let failed = chatted(&["hi"], |connection, mut peer| async move {
        peer.welcome().await;
        if connection == 0 {
            taken(&mut peer).await;
            return;
        }
        for _ in 0..3 {
            let waited = peer.request("agent.wait").await;
            peer.answer(&waited, json!({"runId": "r", "status": "timeout"})).await;
            let history = peer.request("chat.history").await;
            peer.answer(&history, json!({"sessionKey": "main", "messages": [message("no")]})).await;
        }
        peer.gone().await;
    })
    .await
    .failed(1);
    assert!(
        failed.contains("knows nothing of the message any more\nhint: what there is of it: leanclaw call"),
        "{failed}"
    );
}

#[tokio::test]
async fn ctrl_c_ends_the_run_and_then_the_program() {
    let gateway = ScriptedGateway::start(|_, mut peer| async move {
        peer.welcome().await;
        let (run, _) = taken(&mut peer).await;
        chat(&mut peer, &run, json!({"state": "delta", "deltaText": "Once", "message": message("Once")})).await;
        let abort = peer.request("chat.abort").await;
        assert_eq!(abort["params"], json!({"sessionKey": "main", "runId": run}));
        chat(&mut peer, &run, json!({"state": "aborted", "stopReason": "rpc"})).await;
        peer.answer(&abort, json!({"ok": true, "aborted": true, "runIds": [run]})).await;
        peer.gone().await;
    })
    .await;
    let place = Place::empty();
    let mut command = place.command(&["chat", "tell me a story", "--url", &gateway.url]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let mut seen = [0_u8; 4];
    // Not buffered until the end.
    within("the first words", child.stdout.as_mut().unwrap().read_exact(&mut seen)).await.unwrap();
    assert_eq!(&seen, b"Once");
    let process = libc::pid_t::try_from(child.id().unwrap()).unwrap();
    #[expect(unsafe_code, reason = "the standard library can only kill")]
    // SAFETY: sends a signal to a child that has not been waited for, so its id is not anyone else's.
    let sent = unsafe { libc::kill(process, libc::SIGINT) };
    assert_eq!(sent, 0);
    let ended = within("the program ends", child.wait_with_output()).await.unwrap();
    gateway.end().await;
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(130), "Ended.\n"));
}

#[tokio::test]
async fn at_a_terminal_each_line_is_a_message() {
    let gateway = ScriptedGateway::start(|_, mut peer| async move {
        peer.welcome().await;
        for (said, more) in [
            ("hello", json!({"state": "final", "message": message("Hello to you.")})),
            ("again", json!({"state": "error", "errorMessage": "it broke"})),
        ] {
            let (run, params) = taken(&mut peer).await;
            assert_eq!(params["message"], said);
            chat(&mut peer, &run, more).await;
        }
        peer.gone().await;
    })
    .await;
    let place = Place::empty();
    let command = place.command(&["chat", "--url", &gateway.url]);
    let (status, shown) = run_at_terminal(command, "> ", "hello\n\nagain\n\u{4}").await;
    gateway.end().await;
    assert!(status.success(), "{status}: {shown}");
    assert!(shown.contains("Hello to you.") && shown.contains("could not answer: it broke"), "{shown}");
}
