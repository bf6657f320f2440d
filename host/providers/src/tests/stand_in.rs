//! What stands in for a model on a development machine is understood as the real one is.

use std::time::Duration;

use leanclaw_test_fakes::stand_in::{MODEL, serve};
use leanclaw_types::model::{Block, Role, StopReason, Thinking, ToolDefinition};
use serde_json::json;

use super::support::*;
use crate::Provider as _;

#[tokio::test]
async fn a_whole_turn_with_tools() {
    let setup = setup().await;
    serve(&setup.server, Duration::ZERO);
    let models = setup.provider.models(soon()).await.unwrap();
    assert_eq!((models.len(), models[0].id.as_str(), models[0].takes_images), (1, MODEL, Some(false)));

    let mut turn = call(vec![(Role::User, vec![Block::text("Which files are there?")])]);
    turn.model = MODEL.into();
    turn.thinking = Some(Thinking::Low);
    turn.tools = ["glob", "read"]
        .map(|name| ToolDefinition {
            name: name.into(),
            description: "d".into(),
            input_schema: json!({"type": "object"}),
        })
        .into();
    let mut answers = Vec::new();
    for given in [vec!["a.md\n"], vec!["     1\tHeading\n"], vec![]] {
        let told = setup.tell(&turn).await;
        let uses: Vec<&Block> = told.blocks.iter().filter(|block| matches!(block, Block::ToolUse { .. })).collect();
        let results = uses.iter().zip(given).map(|(own, text)| {
            let Block::ToolUse { id, .. } = own else { panic!("{own:?}") };
            Block::ToolResult { tool_use_id: id.clone(), content: vec![Block::text(text)], is_error: false }
        });
        let results: Vec<Block> = results.collect();
        assert!(!told.thinking.is_empty() && matches!(told.blocks[0], Block::Kept { .. }), "{told:?}");
        let next = call(vec![(Role::Assistant, told.blocks.clone()), (Role::User, results)]);
        turn.messages.extend(next.messages);
        answers.push(told);
    }
    assert_eq!(
        answers.iter().map(Told::reason).collect::<Vec<_>>(),
        [StopReason::ToolUse, StopReason::ToolUse, StopReason::EndTurn]
    );
    assert!(
        answers[2].text.starts_with("There is one file in the workspace: `a.md`.\n* `a.md` begins with “Heading”\n")
    );

    turn.thinking = Some(Thinking::Off);
    turn.messages.truncate(1);
    let silent = setup.tell(&turn).await;
    assert_eq!((silent.thinking.as_str(), silent.reason()), ("", StopReason::ToolUse));
    assert!(setup.provider.count_tokens(&turn, soon()).await.unwrap() > 1);
}
