-- One row per session. Transcripts refer to the id, which never comes back: a session that is removed and made anew
-- begins without one.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    label TEXT,
    archived INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    last_seq INTEGER NOT NULL, -- of the newest message, over all resets
    starts_after_seq INTEGER NOT NULL, -- where the current transcript begins
    search TEXT NOT NULL, -- what a search looks through, in small letters
    entry TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX sessions_by_time ON sessions (archived, updated_ms, id);
CREATE INDEX sessions_by_agent ON sessions (agent, archived, updated_ms, id);
CREATE INDEX sessions_by_session_id ON sessions (session_id);
CREATE INDEX sessions_by_label ON sessions (label, agent) WHERE label IS NOT NULL;

-- How many sessions there are, so that nobody has to count them.
CREATE TABLE session_counts (
    agent TEXT NOT NULL,
    archived INTEGER NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (agent, archived, kind)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER sessions_come AFTER INSERT ON sessions BEGIN
    INSERT INTO session_counts VALUES (new.agent, new.archived, new.kind, 1)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER sessions_go AFTER DELETE ON sessions BEGIN
    UPDATE session_counts SET count = count - 1
    WHERE agent = old.agent AND archived = old.archived AND kind = old.kind;
END;
CREATE TRIGGER sessions_move AFTER UPDATE OF agent, archived, kind ON sessions
WHEN (old.agent, old.archived, old.kind) IS NOT (new.agent, new.archived, new.kind) BEGIN
    UPDATE session_counts SET count = count - 1
    WHERE agent = old.agent AND archived = old.archived AND kind = old.kind;
    INSERT INTO session_counts VALUES (new.agent, new.archived, new.kind, 1)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;

-- What was said. Rows of a session that was removed without its transcript stay, out of reach of its key.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session INTEGER NOT NULL, -- sessions.id
    session_id TEXT NOT NULL, -- what the session's id was then
    seq INTEGER NOT NULL, -- from 1, over all resets
    role TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body TEXT NOT NULL, -- JSON
    UNIQUE (session, seq)
) STRICT;
CREATE INDEX messages_by_time ON messages (at_ms);
