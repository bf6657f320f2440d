//! `sessions.usage`: what sessions used, each and together.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{SessionQuery, SessionRow, UsageCell, UsageQuery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::days::{Span, date};
use super::sums::{Sums, by, model_of, money};
use super::{KEY_ALIASES, failed};
use crate::connection::{Answer, Call, Outcome};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Key, agent_id};
use crate::wire::{Payload, joined};

/// Sessions when no limit is named, and at most.
const DEFAULT_SESSIONS: u64 = 50;
const MAX_SESSIONS: u64 = 1000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Usage {
    #[schemars(length(min = 1))]
    key: Option<String>,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(extend("enum" = ["all"]))]
    agent_scope: Option<String>,
    #[schemars(regex(pattern = r"^\d{4}-\d{2}-\d{2}$"))]
    start_date: Option<String>,
    #[schemars(regex(pattern = r"^\d{4}-\d{2}-\d{2}$"))]
    end_date: Option<String>,
    #[schemars(extend("enum" = ["utc", "gateway", "specific"]))]
    mode: Option<String>,
    #[schemars(extend("enum" = ["7d", "30d", "90d", "1y", "all"]))]
    range: Option<String>,
    #[schemars(extend("enum" = ["instance", "family"]))]
    group_by: Option<String>,
    include_historical: Option<bool>,
    #[schemars(regex(pattern = r"^UTC[+-]\d{1,2}(?::[0-5]\d)?$"))]
    utc_offset: Option<String>,
    #[schemars(length(min = 1))]
    time_zone: Option<String>,
    #[schemars(range(min = 1))]
    limit: Option<u64>,
    include_context_weight: Option<bool>,
}

static USAGE: LazyLock<Shape> = LazyLock::new(Shape::of::<Usage>);

/// `sessions.usage {key?, startDate?, endDate?, …}` → `{updatedAt, startDate, endDate, sessions, totals, aggregates}`.
/// Days are those of UTC unless an offset is given.
pub(crate) fn usage(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let usage: Usage = call.read(&USAGE, KEY_ALIASES)?;
    let days = match usage.range.as_deref() {
        Some("7d") => 7,
        Some("90d") => 90,
        Some("1y") => 365,
        Some("all") => 3660,
        _ => 30,
    };
    let dates = (usage.start_date.as_deref(), usage.end_date.as_deref());
    let span = Span::read(dates, usage.utc_offset.as_deref(), days, call.state.now_ms())?;
    let key = usage.key.as_deref().map(|key| Key::read(key, usage.agent_id.as_deref())).transpose()?;
    let agent = usage.agent_id.as_deref().map(agent_id).transpose()?;
    let limit = usage.limit.unwrap_or(DEFAULT_SESSIONS).min(MAX_SESSIONS);
    Ok(call.later(move |state, session| async move {
        let (from_ms, until_ms) = span.times_ms();
        let query = UsageQuery {
            key: key.as_ref().map(|key| key.text.clone()),
            agent: agent.clone(),
            from_ms,
            until_ms,
            day_shift_ms: span.shift_ms,
        };
        let sessions = &state.services.sessions;
        let cells = sessions.usage(query).await.map_err(failed(&session))?;
        let rows = match &key {
            Some(key) => sessions.get(&key.text).map_err(failed(&session))?.into_iter().collect(),
            None => {
                let agents = agent.map(|agent| vec![agent]);
                let query =
                    SessionQuery { agents, archived: Some(false), limit: Some(limit), ..SessionQuery::default() };
                sessions.list(query).await.map_err(failed(&session))?.rows
            }
        };
        answer(&state, &session, &span, (&rows, &cells))
    }))
}

fn answer(state: &State, session: &Session, span: &Span, (rows, cells): (&[SessionRow], &[UsageCell])) -> Outcome {
    let newest = session.version.is_newest();
    let by_key = by(cells, |cell| Some(cell.key.as_str()));
    let shown = |row: &SessionRow| {
        let own = by_key.get(row.key.as_str()).map(|cells| of_session(row, cells));
        let mut shown = json!({"key": row.key, "sessionId": row.session_id, "updatedAt": row.updated_ms});
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("agentId".into(), json!(row.agent));
            shown.extend(row.label.as_ref().map(|label| ("label".to_owned(), json!(label))));
            shown.insert("usage".into(), own.unwrap_or(Value::Null));
            if newest {
                shown.insert("scope".into(), json!("instance"));
                shown.insert("creatorKey".into(), json!("[\"unknown\"]"));
                shown.insert("hasContextWeight".into(), json!(false));
            }
        }
        shown
    };
    let sessions: Vec<Value> = rows.iter().map(shown).collect();
    let answer = json!({
        "updatedAt": state.now_ms(), "startDate": date(span.first), "endDate": date(span.last), "sessions": sessions,
        "totals": Sums::of(cells).totals(), "aggregates": aggregates(cells, newest),
    });
    Ok(Payload::json(&joined(answer, newest.then(|| ("creatorOptions", json!([]))))))
}

/// What one session used.
fn of_session(row: &SessionRow, cells: &[&UsageCell]) -> Value {
    let first = cells.iter().map(|cell| cell.first_ms).min().unwrap_or(0);
    let last = cells.iter().map(|cell| cell.last_ms).max().unwrap_or(0);
    let sums = Sums::of(cells.iter().copied());
    let days = by(cells.iter().copied(), |cell| Some(cell.day));
    let per_day = |shown: fn(&Sums) -> Map<String, Value>| -> Vec<Value> {
        let day = |(day, cells): (&i64, &Vec<&UsageCell>)| {
            joined(json!({"date": date(*day)}), shown(&Sums::of(cells.iter().copied())))
        };
        days.iter().map(day).collect()
    };
    let fields = json!({
        "sessionId": row.session_id,
        "firstActivity": first,
        "lastActivity": last,
        "durationMs": last - first,
        "activityDates": days.keys().map(|day| date(*day)).collect::<Vec<_>>(),
        "dailyBreakdown": per_day(tokens_and_cost),
        "dailyMessageCounts": per_day(Sums::counts),
        "dailyLatency": [],
        "dailyModelUsage": daily_models(cells.iter().copied()),
        "messageCounts": sums.counts(),
        "modelUsage": models(cells.iter().copied()),
    });
    joined(fields, sums.totals())
}

fn tokens_and_cost(sums: &Sums) -> Map<String, Value> {
    let fields = [("tokens", json!(sums.tokens.total)), ("cost", money(sums.tokens.total_cost))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn models<'a>(cells: impl IntoIterator<Item = &'a UsageCell>) -> Vec<Value> {
    let shown = |((provider, model), cells): ((&str, &str), Vec<&UsageCell>)| {
        let sums = Sums::of(cells);
        json!({"provider": provider, "model": model, "count": sums.messages, "totals": sums.totals()})
    };
    by(cells, model_of).into_iter().map(shown).collect()
}

fn daily_models<'a>(cells: impl IntoIterator<Item = &'a UsageCell>) -> Vec<Value> {
    let shown = |((day, (provider, model)), cells): ((i64, (&str, &str)), Vec<&UsageCell>)| {
        let sums = Sums::of(cells);
        let fields = json!({"date": date(day), "provider": provider, "model": model, "count": sums.messages});
        joined(fields, tokens_and_cost(&sums))
    };
    by(cells, |cell| Some((cell.day, model_of(cell)?))).into_iter().map(shown).collect()
}

fn aggregates(cells: &[UsageCell], newest: bool) -> Value {
    let sums = Sums::of(cells);
    let providers = by(cells, |cell| model_of(cell).map(|(provider, _)| provider));
    let provider = |(provider, cells): (&str, Vec<&UsageCell>)| {
        let sums = Sums::of(cells);
        json!({"provider": provider, "count": sums.messages, "totals": sums.totals()})
    };
    let agents = by(cells, |cell| cell.key.split(':').nth(1));
    let agent = |(agent, cells): (&str, Vec<&UsageCell>)| json!({"agentId": agent, "totals": Sums::of(cells).totals()});
    let day = |(day, cells): (i64, Vec<&UsageCell>)| {
        let sums = Sums::of(cells);
        let mut counts = sums.counts();
        let messages = counts.shift_remove("total").unwrap_or_default();
        let fields = json!({
            "date": date(day), "tokens": sums.tokens.total, "cost": money(sums.tokens.total_cost),
            "messages": messages, "toolCalls": counts.get("toolCalls"), "errors": counts.get("errors"),
        });
        fields
    };
    let mut fields = json!({
        "messages": sums.counts(),
        "tools": {"totalCalls": 0, "uniqueTools": 0, "tools": []},
        "byModel": models(cells),
        "byProvider": providers.into_iter().map(provider).collect::<Vec<_>>(),
        "byAgent": agents.into_iter().map(agent).collect::<Vec<_>>(),
        "byChannel": [],
        "dailyLatency": [],
        "modelDaily": daily_models(cells),
        "daily": by(cells, |cell| Some(cell.day)).into_iter().map(day).collect::<Vec<_>>(),
    });
    if let Some(fields) = fields.as_object_mut().filter(|_| newest) {
        let daily = by(cells, |cell| Some(cell.day)).into_iter();
        let cost = |(day, cells): (i64, Vec<&UsageCell>)| joined(json!({"date": date(day)}), Sums::of(cells).totals());
        fields.insert("sessionCount".into(), json!(by(cells, |cell| Some(cell.key.as_str())).len()));
        fields.insert("byCreator".into(), json!([]));
        fields.insert("costDaily".into(), json!(daily.map(cost).collect::<Vec<_>>()));
    }
    fields
}
