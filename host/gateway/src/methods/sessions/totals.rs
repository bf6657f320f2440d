//! `usage.cost`, `usage.status`, `sessions.usage.timeseries` and `sessions.usage.logs`.

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{TranscriptMessage, TranscriptQuery, UsageQuery};
use serde_json::{Map, Value, json};

use super::days::{Span, date};
use super::sums::{Sums, by, money};
use super::{failed, shortened};
use crate::connection::{Answer, Call};
use crate::sessions::{Key, text_of};
use crate::wire::{Payload, joined};

/// Days that are counted when none are named.
const DEFAULT_DAYS: i64 = 30;
/// Messages of a log when no limit is named, and at most.
const DEFAULT_LOGS: u64 = 200;
const MAX_LOGS: u64 = 1000;
/// Characters of a line.
const LOG_CHARS: usize = 2000;

fn params(call: &Call<'_>) -> Map<String, Value> {
    // Unknown keys are ignored, as the real gateway ignores them.
    serde_json::from_str(call.params).unwrap_or_default()
}

/// `usage.cost {days? | startDate, endDate, utcOffset?}` → `{updatedAt, days, daily, totals}`.
pub(crate) fn cost(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let (params, now_ms, newest) = (params(call), call.state.now_ms(), call.session.version.is_newest());
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let days = params.get("days").and_then(Value::as_i64).unwrap_or(DEFAULT_DAYS);
    let span = Span::read((text("startDate"), text("endDate")), text("utcOffset"), days, now_ms)?;
    Ok(call.later(move |state, session| async move {
        let (from_ms, until_ms) = span.times_ms();
        let query = UsageQuery { from_ms, until_ms, day_shift_ms: span.shift_ms, ..UsageQuery::default() };
        let cells = state.services.sessions.usage(query).await.map_err(failed(&session))?;
        let by_day = by(&cells, |cell| Some(cell.day));
        // Version 3 leaves days without use out, and counts one day more than it was asked for.
        let shown = (span.first..=span.last).filter(|day| newest || by_day.contains_key(day));
        let day = |day: i64| {
            let sums = Sums::of(by_day.get(&day).into_iter().flatten().copied());
            joined(json!({"date": date(day)}), sums.totals())
        };
        let daily: Vec<Value> = shown.map(day).collect();
        let days = span.days() + i64::from(!newest);
        let answer = json!({"updatedAt": now_ms, "days": days, "daily": daily, "totals": Sums::of(&cells).totals()});
        let cache = json!({"status": "fresh", "cachedFiles": 0, "pendingFiles": 0, "staleFiles": 0});
        Ok(Payload::json(&joined(answer, newest.then_some(("cacheStatus", cache)))))
    }))
}

/// `usage.status` → `{updatedAt, providers}`: no provider reports quotas here.
pub(crate) fn status(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    Ok(Answer::json(&json!({"updatedAt": call.state.now_ms(), "providers": []})))
}

/// `sessions.usage.timeseries {key}` → `{sessionId, points}`: a point for every answer of a model.
pub(crate) fn timeseries(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let key = key(call)?;
    Ok(call.later(|state, session| async move {
        let sessions = &state.services.sessions;
        let row = sessions.get(&key.text).map_err(failed(&session))?;
        let row = row.ok_or_else(|| ErrorShape::invalid(format!("No transcript found for session: {}", key.text)))?;
        let query = TranscriptQuery { limit: MAX_LOGS, ..TranscriptQuery::default() };
        let transcript = sessions.transcript(&key.text, query).await.map_err(failed(&session))?;
        let (mut tokens, mut dollars) = (0, 0.0);
        let point = |message: &TranscriptMessage| {
            let usage = message.body.get("usage").filter(|usage| usage.is_object())?;
            let number = |name: &str| usage.get(name).and_then(Value::as_f64).unwrap_or(0.0);
            let cost = usage.pointer("/cost/total").and_then(Value::as_f64).unwrap_or(0.0);
            tokens += number("totalTokens") as u64;
            dollars += cost;
            let mut point = json!({"timestamp": message.at_ms});
            let object = point.as_object_mut()?;
            for name in ["input", "output", "cacheRead", "cacheWrite", "totalTokens"] {
                object.insert(name.into(), json!(number(name) as u64));
            }
            object.insert("cost".into(), money(cost));
            object.insert("cumulativeTokens".into(), json!(tokens));
            object.insert("cumulativeCost".into(), money(dollars));
            Some(point)
        };
        let points: Vec<Value> = transcript.messages.iter().filter_map(point).collect();
        Ok(Payload::json(&json!({"sessionId": row.session_id, "points": points})))
    }))
}

/// `sessions.usage.logs {key, limit?}` → `{logs: [{timestamp, role, content, tokens?, cost?}]}`.
pub(crate) fn logs(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let key = key(call)?;
    let limit = params(call).get("limit").and_then(Value::as_u64).unwrap_or(DEFAULT_LOGS).clamp(1, MAX_LOGS);
    Ok(call.later(move |state, session| async move {
        let query = TranscriptQuery { limit, ..TranscriptQuery::default() };
        let transcript = state.services.sessions.transcript(&key.text, query).await.map_err(failed(&session))?;
        let line = |message: &TranscriptMessage| {
            let text = text_of(message);
            let mut line = json!({
                "timestamp": message.at_ms, "role": message.role, "content": shortened(&text, LOG_CHARS),
            });
            if let (Some(usage), Some(line)) = (message.body.get("usage"), line.as_object_mut()) {
                line.extend(usage.get("totalTokens").map(|tokens| ("tokens".to_owned(), tokens.clone())));
                line.extend(usage.pointer("/cost/total").map(|cost| ("cost".to_owned(), cost.clone())));
            }
            (!text.trim().is_empty()).then_some(line)
        };
        let logs: Vec<Value> = transcript.messages.iter().filter_map(line).collect();
        Ok(Payload::json(&json!({"logs": logs})))
    }))
}

fn key(call: &Call<'_>) -> Result<Key, ErrorShape> {
    let params = params(call);
    let named = ["key", "sessionKey", "chatJid"].into_iter().find_map(|name| params.get(name).and_then(Value::as_str));
    let named = named.ok_or_else(|| ErrorShape::invalid(format!("key is required for {}", call.method)))?;
    Key::read(named, params.get("agentId").and_then(Value::as_str))
}
