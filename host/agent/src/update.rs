//! What those who look on are shown, in the protocol's shapes.

use std::path::{Path, PathBuf};

use agent_client_protocol_schema::v1::{
    Content, ContentBlock, ContentChunk, Diff, ImageContent, SessionNotification, SessionUpdate, TextContent, ToolCall,
    ToolCallContent, ToolCallLocation, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
};
use leanclaw_types::model::Block;
use serde_json::Value;

use crate::cap::head;
use crate::peer::Peer;
use crate::tools::{Outcome, Tool};
use crate::workspace::Workspace;

/// The longest title of a tool call, in bytes.
const MAX_TITLE_BYTES: usize = 200;

/// Shows one session's doings.
pub(crate) struct Updates<'a> {
    pub(crate) session: &'a str,
    pub(crate) workspace: &'a Workspace,
}

impl Updates<'_> {
    fn show(&self, peer: &mut Peer<'_>, update: SessionUpdate) {
        peer.notify("session/update", &SessionNotification::new(self.session.to_owned(), update));
    }

    /// More of the answer.
    pub(crate) fn text(&self, peer: &mut Peer<'_>, text: &str) {
        self.show(peer, SessionUpdate::AgentMessageChunk(ContentChunk::new(words(text))));
    }

    /// More of the thinking.
    pub(crate) fn thought(&self, peer: &mut Peer<'_>, text: &str) {
        self.show(peer, SessionUpdate::AgentThoughtChunk(ContentChunk::new(words(text))));
    }

    /// A tool is going to be used.
    pub(crate) fn announce(&self, peer: &mut Peer<'_>, call: ToolCall) {
        self.show(peer, SessionUpdate::ToolCall(call));
    }

    /// A tool begins.
    pub(crate) fn begun(&self, peer: &mut Peer<'_>, id: &str) {
        let fields = ToolCallUpdateFields::new().status(ToolCallStatus::InProgress);
        self.show(peer, SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id.to_owned(), fields)));
    }

    /// A tool is done.
    pub(crate) fn done(&self, peer: &mut Peer<'_>, id: &str, outcome: &Outcome) {
        let status = if outcome.is_error { ToolCallStatus::Failed } else { ToolCallStatus::Completed };
        let mut content: Vec<ToolCallContent> = outcome.content.iter().filter_map(shown).collect();
        if let Some(change) = &outcome.change {
            let path = absolute(self.workspace, &change.path);
            let diff = Diff::new(path, change.new.clone()).old_text(change.old.clone());
            content.push(ToolCallContent::Diff(diff));
        }
        let fields = ToolCallUpdateFields::new().status(status).content(content);
        self.show(peer, SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id.to_owned(), fields)));
    }

    /// A tool call before anything happened.
    pub(crate) fn call(&self, id: &str, name: &str, input: &Value, tool: Option<&dyn Tool>) -> ToolCall {
        let subject = tool.and_then(|tool| tool.subject(input));
        let line = subject.map(|subject| subject.lines().next().unwrap_or_default());
        let title = line.map_or_else(|| name.to_owned(), |line| format!("{name} {line}"));
        let kind = tool.map_or(ToolKind::Other, Tool::kind);
        let mut call = ToolCall::new(id.to_owned(), head(&title, MAX_TITLE_BYTES))
            .kind(kind)
            .status(ToolCallStatus::Pending)
            .raw_input(input.clone());
        if let (Some(path), ToolKind::Read | ToolKind::Edit) = (subject, kind) {
            call = call.locations(vec![ToolCallLocation::new(absolute(self.workspace, path))]);
        }
        call
    }
}

fn words(text: &str) -> ContentBlock {
    ContentBlock::Text(TextContent::new(text))
}

fn shown(block: &Block) -> Option<ToolCallContent> {
    let content = match block {
        Block::Text { text } => words(text),
        Block::Image { media_type, data } => ContentBlock::Image(ImageContent::new(data.clone(), media_type.clone())),
        Block::ToolUse { .. } | Block::InvalidToolUse { .. } | Block::ToolResult { .. } | Block::Kept { .. } => {
            return None;
        }
    };
    Some(ToolCallContent::Content(Content::new(content)))
}

/// The protocol wants whole paths. This one is for show, and nothing is opened by it.
fn absolute(workspace: &Workspace, path: &str) -> PathBuf {
    workspace.path().join(Path::new(path))
}
