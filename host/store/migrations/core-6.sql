-- What agents were asked to do, and how it ended. A run goes with its session.
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order in which they were taken on, over all sessions
    id TEXT NOT NULL UNIQUE,
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    message INTEGER NOT NULL, -- messages.id of what is to be answered
    seq INTEGER NOT NULL, -- messages.seq of it
    state TEXT NOT NULL, -- waiting, running or ended
    attempts INTEGER NOT NULL, -- how often its turn came
    created_ms INTEGER NOT NULL,
    started_ms INTEGER, -- when its turn came first
    ended_number INTEGER, -- in the order in which they ended; null before
    ended_ms INTEGER,
    request TEXT NOT NULL, -- JSON; without its words and pictures once the run ended
    ending TEXT -- JSON; null before
) STRICT;
CREATE INDEX runs_by_session ON runs (session, state);
CREATE INDEX runs_by_state ON runs (state, ended_number, ended_ms);
