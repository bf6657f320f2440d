//! Sessions in memory.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use leanclaw_types::Failure;
use leanclaw_types::session::{
    AgentSessions, Appended, DecideSession, MarkedPage, MarkedSession, NewMessage, RecallSessions, SessionChange,
    SessionKind, SessionLookup, SessionMark, SessionOutcome, SessionPage, SessionQuery, SessionRow, TokenSums,
    Transcript, TranscriptMessage, TranscriptQuery, UsageCell, UsageQuery,
};
use serde_json::Value;

use super::fake::MemoryRecords;
use crate::Sessions;

#[derive(Clone)]
pub(crate) struct MemorySession {
    row: SessionRow,
    mark: SessionMark,
    messages: Vec<TranscriptMessage>,
    starts_after_seq: u64,
    last_seq: u64,
}

fn matches(query: &SessionQuery, row: &SessionRow) -> bool {
    let search = query.search.as_ref().map(|search| search.to_lowercase());
    let text = format!("{} {} {}", row.key, row.label.as_deref().unwrap_or_default(), row.session_id).to_lowercase();
    query.agents.as_ref().is_none_or(|agents| agents.contains(&row.agent))
        && query.archived.is_none_or(|archived| row.archived == archived)
        && (query.include_global || row.kind != SessionKind::Global)
        && (query.include_unknown || row.kind != SessionKind::Unknown)
        && query.label.as_ref().is_none_or(|label| row.label.as_ref() == Some(label))
        && query.spawned_by.as_ref().is_none_or(|parent| row.entry.get("spawnedBy") == Some(&parent.as_str().into()))
        && !(query.exclude_subagents && row.key.contains(":subagent:"))
        && search.is_none_or(|search| text.contains(&search))
        && query.updated_since_ms.is_none_or(|since| row.updated_ms >= since)
}

impl MemoryRecords {
    /// Adds a message, as an agent would.
    pub(super) fn say(&self, key: &str, role: &str, body: Value, at_ms: u64) {
        let mut sessions = self.sessions.lock().unwrap();
        let revision = self.next_revision();
        let id = sessions.values().map(|session| session.last_seq).sum::<u64>() as i64 + 1;
        let session = sessions.get_mut(key).unwrap();
        session.mark.revision = revision;
        session.last_seq += 1;
        let body = body.as_object().unwrap().clone();
        session.messages.push(TranscriptMessage { id, seq: session.last_seq, role: role.into(), body, at_ms });
    }

    /// What was said last.
    pub(super) fn last(&self, key: &str) -> TranscriptMessage {
        self.sessions.lock().unwrap()[key].messages.last().unwrap().clone()
    }

    /// What a session's state goes by now.
    pub(super) fn mark(&self, key: &str) -> SessionMark {
        self.sessions.lock().unwrap()[key].mark
    }

    fn next_revision(&self) -> i64 {
        self.revision.fetch_add(1, Ordering::SeqCst) as i64 + 1
    }

    fn spoken_ms(&self, key: &str) -> Option<u64> {
        let sessions = self.sessions.lock().unwrap();
        let said = sessions[key].messages.iter().rev().find(|message| message.role == "user");
        said.map(|message| message.at_ms)
    }

    fn rows(&self) -> Vec<SessionRow> {
        let mut rows: Vec<_> = self.sessions.lock().unwrap().values().map(|session| session.row.clone()).collect();
        rows.sort_by_key(|row| (Reverse(row.updated_ms), row.key.clone()));
        rows
    }
}

impl MemoryRecords {
    fn decided(&self, key: String, decide: DecideSession) -> SessionOutcome {
        let mut sessions = self.sessions.lock().unwrap();
        let revision = self.next_revision();
        let old = sessions.get(&key).cloned();
        let (row, keep) = match decide(old.as_ref().map(|session| session.row.clone())) {
            SessionChange::Nothing => return SessionOutcome::Done,
            SessionChange::Remove { .. } => {
                let removed = sessions.remove(&key);
                return removed
                    .map_or(SessionOutcome::Done, |old| SessionOutcome::Removed { session: old.mark.session });
            }
            SessionChange::Put(row) => (row, None),
            SessionChange::Restart(row) => (row, Some(0)),
            SessionChange::Keep { row, messages } => (row, Some(messages)),
        };
        let same = |other: &MemorySession| other.row.key != key && other.row.label == row.label;
        if row.label.is_some() && sessions.values().any(same) {
            return SessionOutcome::LabelTaken;
        }
        let mark = SessionMark { session: revision, revision };
        let new = MemorySession { row: row.clone(), mark, messages: Vec::new(), starts_after_seq: 0, last_seq: 0 };
        let mut session = MemorySession { row, ..old.unwrap_or(new) };
        session.mark.revision = revision;
        if let Some(keep) = keep {
            session.starts_after_seq = session.starts_after_seq.max(session.last_seq.saturating_sub(keep));
        }
        sessions.insert(key, session);
        SessionOutcome::Done
    }
}

#[async_trait]
impl Sessions for MemoryRecords {
    fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    async fn list(&self, query: SessionQuery) -> Result<SessionPage, Failure> {
        let mut rows: Vec<_> = self.rows().into_iter().filter(|row| matches(&query, row)).collect();
        rows.retain(|row| !query.spoken_in || self.spoken_ms(&row.key).is_some());
        if query.last_spoken_first {
            rows.sort_by_key(|row| Reverse(self.spoken_ms(&row.key)));
        }
        let total = rows.len() as u64;
        let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(SessionPage { rows: rows.into_iter().skip(query.offset as usize).take(limit).collect(), total })
    }

    async fn list_marked(&self, query: SessionQuery, recall: RecallSessions) -> Result<MarkedPage, Failure> {
        let SessionPage { rows, total } = self.list(query).await?;
        let marks: Vec<_> = rows.iter().map(|row| self.sessions.lock().unwrap()[&row.key].mark).collect();
        let kept = recall(&marks);
        let each = rows.into_iter().zip(marks).zip(kept);
        let rows = each.map(|((row, mark), kept)| match kept {
            Some(kept) => MarkedSession::Kept(kept),
            None => MarkedSession::Read(mark, Box::new(row)),
        });
        Ok(MarkedPage { rows: rows.collect(), total })
    }

    fn get(&self, key: &str) -> Result<Option<SessionRow>, Failure> {
        Ok(self.sessions.lock().unwrap().get(key).map(|session| session.row.clone()))
    }

    fn find(&self, lookup: &SessionLookup) -> Result<Vec<SessionRow>, Failure> {
        let fits = |row: &SessionRow| match lookup {
            SessionLookup::Id(id) => row.session_id == *id,
            SessionLookup::IdStart(start) => row.session_id.starts_with(start),
            SessionLookup::Label { label, agent } => {
                row.label.as_ref() == Some(label) && agent.as_ref().is_none_or(|agent| row.agent == *agent)
            }
        };
        Ok(self.rows().into_iter().filter(fits).collect())
    }

    async fn change(&self, key: String, decide: DecideSession) -> Result<SessionOutcome, Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::unavailable("the disk is full"));
        }
        let outcome = self.decided(key, decide);
        drop(self.changed.lock().await);
        Ok(outcome)
    }

    async fn transcript(&self, key: &str, query: TranscriptQuery) -> Result<Transcript, Failure> {
        let sessions = self.sessions.lock().unwrap();
        let Some(session) = sessions.get(key) else { return Ok(Transcript::default()) };
        let after = query.after_seq.unwrap_or(0).max(session.starts_after_seq);
        let fits = |message: &&TranscriptMessage| {
            message.seq > after && query.up_to_id.is_none_or(|up_to| message.id <= up_to)
        };
        let mut messages: Vec<_> = session.messages.iter().filter(fits).cloned().collect();
        if !query.oldest {
            messages.reverse();
        }
        let mut messages: Vec<_> =
            messages.into_iter().skip(query.offset as usize).take(query.limit as usize).collect();
        messages.sort_by_key(|message| message.seq);
        Ok(Transcript {
            messages,
            total: session.last_seq - session.starts_after_seq,
            last_seq: session.last_seq,
            starts_after_seq: session.starts_after_seq,
        })
    }

    async fn append(&self, key: &str, message: NewMessage) -> Result<Option<Appended>, Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::unavailable("the disk is full"));
        }
        let said =
            |sessions: &std::collections::BTreeMap<String, MemorySession>| sessions.get(key)?.messages.last().cloned();
        if !self.sessions.lock().unwrap().contains_key(key) {
            return Ok(None);
        }
        let id = message.body.get("idempotencyKey").cloned();
        let known = self.sessions.lock().unwrap()[key].messages.clone();
        let same = known.into_iter().find(|own| id.is_some() && own.body.get("idempotencyKey") == id.as_ref());
        if let Some(message) = same {
            return Ok(Some(Appended { message, repeated: true }));
        }
        self.say(key, &message.role, Value::Object(message.body), message.at_ms);
        let message = said(&self.sessions.lock().unwrap());
        drop(self.said.lock().await);
        Ok(message.map(|message| Appended { message, repeated: false }))
    }

    async fn usage(&self, query: UsageQuery) -> Result<Vec<UsageCell>, Failure> {
        let mut cells = Vec::new();
        for session in self.sessions.lock().unwrap().values() {
            let wanted = query.key.as_ref().is_none_or(|key| session.row.key == *key)
                && query.agent.as_ref().is_none_or(|agent| session.row.agent == *agent);
            let said = session.messages.iter().filter(|message| wanted && message.at_ms >= query.from_ms);
            for message in said.filter(|message| message.at_ms < query.until_ms) {
                let body = Value::Object(message.body.clone());
                let tokens = |name: &str| body["usage"][name].as_u64().unwrap_or(0);
                let text = |name: &str| body[name].as_str().map(str::to_owned);
                cells.push(UsageCell {
                    key: session.row.key.clone(),
                    day: (message.at_ms as i64 + query.day_shift_ms).div_euclid(86_400_000),
                    role: message.role.clone(),
                    provider: text("provider"),
                    model: text("model"),
                    messages: 1,
                    errors: u64::from(body["isError"] == true),
                    first_ms: message.at_ms,
                    last_ms: message.at_ms,
                    tokens: TokenSums {
                        input: tokens("input"),
                        output: tokens("output"),
                        total: tokens("totalTokens"),
                        total_cost: body["usage"]["cost"]["total"].as_f64().unwrap_or(0.0),
                        ..TokenSums::default()
                    },
                });
            }
        }
        Ok(cells)
    }

    fn at_a_glance(&self, recent: u32) -> Result<Vec<AgentSessions>, Failure> {
        let mut agents: Vec<AgentSessions> = Vec::new();
        for row in self.rows().into_iter().filter(|row| matches(&SessionQuery::default(), row) && !row.archived) {
            let at = agents.iter().position(|own| own.agent == row.agent).unwrap_or_else(|| {
                agents.push(AgentSessions { agent: row.agent.clone(), ..AgentSessions::default() });
                agents.len() - 1
            });
            agents[at].count += 1;
            if agents[at].recent.len() < recent as usize {
                agents[at].recent.push((row.key, row.updated_ms));
            }
        }
        Ok(agents)
    }
}
