//! What an agent is told of itself and of its conversation when its turn begins.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use leanclaw_types::agent::SessionSetup;
use leanclaw_types::model::{ModelMessage, Thinking, ToolDefinition};
use leanclaw_types::run::RunRequest;
use leanclaw_types::session::SessionRow;
use serde_json::Value;

use super::models::Choice;

/// The most tokens of one answer, where the model does not allow less.
const MAX_TOKENS: u32 = 16_000;
/// The most model calls of one turn.
const MAX_ROUNDS: u32 = 50;

/// What is true of every agent.
const ABOUT: &str = "You are an assistant that people talk to through LeanClaw, from chat programs, terminals and web pages. \
                     Answer in the language you are spoken to, plainly and no longer than it has to be. Do what you are asked to \
                     with your tools instead of describing how it could be done, and say what you could not do.";

/// Everything an agent needs to begin.
pub(super) fn setup(
    request: &RunRequest,
    row: &SessionRow,
    choice: &Choice,
    history: Vec<ModelMessage>,
    tools: Vec<ToolDefinition>,
    date: String,
) -> SessionSetup {
    let most = choice.max_output_tokens.and_then(|most| u32::try_from(most).ok()).unwrap_or(MAX_TOKENS);
    SessionSetup {
        model: choice.model.clone(),
        thinking: request.thinking.or_else(|| thinking(row)),
        max_tokens: most.clamp(1, MAX_TOKENS),
        system: system(request, row),
        history,
        tools,
        max_rounds: MAX_ROUNDS,
        ask_before: Vec::new(),
        date,
    }
}

fn system(request: &RunRequest, row: &SessionRow) -> String {
    let agent = if row.agent == leanclaw_types::session::DEFAULT_AGENT {
        String::new()
    } else {
        format!(" You are the agent `{}`.", row.agent)
    };
    let more = request.system.trim();
    if more.is_empty() { format!("{ABOUT}{agent}") } else { format!("{ABOUT}{agent}\n\n{more}") }
}

/// What was chosen for the session.
fn thinking(row: &SessionRow) -> Option<Thinking> {
    let level = row.entry.get("thinkingLevel")?;
    serde_json::from_value::<Thinking>(Value::String(level.as_str()?.to_ascii_lowercase())).ok()
}

/// The day, as an agent reads it. No time of day: what is said before a conversation must not change within it, as providers
/// charge less for what they have read before.
pub(super) fn date(now_ms: u64, zone: &TimeZone) -> String {
    let now = i64::try_from(now_ms).ok().and_then(|now| Timestamp::from_millisecond(now).ok()).unwrap_or_default();
    now.to_zoned(zone.clone()).strftime("%A, %-d %B %Y (%Z)").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_the_one_of_the_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(date(1_795_474_800_000, &berlin), "Tuesday, 24 November 2026 (CET)");
        assert_eq!(date(1_795_474_800_000, &TimeZone::UTC), "Monday, 23 November 2026 (UTC)");
    }
}
