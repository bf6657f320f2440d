//! The gateway's sessions, in the store.

use async_trait::async_trait;
use leanclaw_gateway::Sessions;
use leanclaw_types::Failure;
use leanclaw_types::session::{
    AgentSessions, Appended, DecideSession, MarkedPage, NewMessage, RecallSessions, SessionLookup, SessionOutcome,
    SessionPage, SessionQuery, SessionRow, Transcript, TranscriptQuery, UsageCell, UsageQuery,
};

use super::PluginGateway;

#[async_trait]
impl Sessions for PluginGateway {
    fn revision(&self) -> u64 {
        self.store.commits()
    }

    async fn list(&self, query: SessionQuery) -> Result<SessionPage, Failure> {
        Ok(self.store.sessions(query).await?)
    }

    async fn list_marked(&self, query: SessionQuery, recall: RecallSessions) -> Result<MarkedPage, Failure> {
        Ok(self.store.marked_sessions(query, recall).await?)
    }

    fn get(&self, key: &str) -> Result<Option<SessionRow>, Failure> {
        Ok(self.store.session(key)?)
    }

    fn find(&self, lookup: &SessionLookup) -> Result<Vec<SessionRow>, Failure> {
        Ok(self.store.find_sessions(lookup)?)
    }

    async fn change(&self, key: String, decide: DecideSession) -> Result<SessionOutcome, Failure> {
        Ok(self.store.change_session(key, decide).await?)
    }

    async fn transcript(&self, key: &str, query: TranscriptQuery) -> Result<Transcript, Failure> {
        Ok(self.store.transcript(key, query).await?)
    }

    async fn append(&self, key: &str, message: NewMessage) -> Result<Option<Appended>, Failure> {
        Ok(self.store.append_once(key, message).await?)
    }

    async fn usage(&self, query: UsageQuery) -> Result<Vec<UsageCell>, Failure> {
        Ok(self.store.usage_of_sessions(query).await?)
    }

    fn at_a_glance(&self, recent: u32) -> Result<Vec<AgentSessions>, Failure> {
        Ok(self.store.sessions_at_a_glance(recent)?)
    }
}
