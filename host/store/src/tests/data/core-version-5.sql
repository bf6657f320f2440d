-- What schema version 5 of core.db looks like with something in it. Never edited: databases like this exist.
PRAGMA application_id = 0x4c43636f;
PRAGMA user_version = 5;

BEGIN TRANSACTION;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    plugin TEXT,
    account TEXT, -- null for the default account and for rows about the whole plugin
    record TEXT NOT NULL -- JSON
) STRICT;
CREATE TABLE grants (
    plugin TEXT NOT NULL,
    account TEXT NOT NULL,
    permissions TEXT NOT NULL, -- JSON
    granted_at_ms INTEGER NOT NULL,
    granted_by TEXT NOT NULL,
    decided TEXT NOT NULL, -- JSON: what the manifest asked for then
    PRIMARY KEY (plugin, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    plugin TEXT NOT NULL,
    account TEXT NOT NULL,
    channel TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received TEXT NOT NULL, -- JSON, the bytes of its blobs left out
    UNIQUE (plugin, account, channel, message_id)
) STRICT;
CREATE TABLE inbox_blobs (
    inbox_id INTEGER NOT NULL REFERENCES inbox (id) ON DELETE CASCADE,
    part INTEGER NOT NULL, -- position in the message's parts, from 0
    data BLOB NOT NULL,
    PRIMARY KEY (inbox_id, part)
) STRICT;
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
INSERT INTO "messages" VALUES(11,4,'5c1d',1,'user',1700000000001,'{"content":"before","idempotencyKey":"k1"}');
INSERT INTO "messages" VALUES(12,4,'5c1e',2,'user',1700000000002,'{"content":"hello","idempotencyKey":"k2"}');
INSERT INTO "messages" VALUES(13,4,'5c1e',3,'assistant',1700000000003,'{"content":"hi"}');
CREATE TABLE records (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE secrets (
    plugin TEXT NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (plugin, account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "secrets" VALUES('notes','work','key','hunter2');
CREATE TABLE session_counts (
    agent TEXT NOT NULL,
    archived INTEGER NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (agent, archived, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO "session_counts" VALUES('main',0,'direct',1);
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
, revision INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "sessions" VALUES(4,'agent:main:main','5c1e','main','direct','Mine',0,1700000000000,1700000000003,3,1,'agent:main:main','{"displayName":"Main"}',3);
CREATE TABLE specs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256 TEXT NOT NULL UNIQUE,
    specs TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX audit_by_plugin ON audit (plugin, id) WHERE plugin IS NOT NULL;
CREATE INDEX audit_by_kind ON audit (kind, id);
CREATE INDEX sessions_by_session_id ON sessions (session_id);
CREATE INDEX sessions_by_label ON sessions (label, agent) WHERE label IS NOT NULL;
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
CREATE INDEX messages_by_time ON messages (at_ms);
CREATE INDEX messages_by_idempotency_key ON messages (session, body ->> '$.idempotencyKey')
WHERE json_type(body, '$.idempotencyKey') = 'text';
CREATE TRIGGER sessions_change AFTER UPDATE ON sessions WHEN old.revision = new.revision BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id = new.id;
END;
CREATE INDEX sessions_by_time ON sessions (archived, updated_ms, id, kind, revision);
CREATE INDEX sessions_by_agent ON sessions (agent, archived, updated_ms, id, kind, revision);
CREATE TRIGGER messages_come AFTER INSERT ON messages BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id = new.session;
END;
CREATE TRIGGER messages_go AFTER DELETE ON messages BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id = old.session;
END;
CREATE TRIGGER messages_change AFTER UPDATE ON messages BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id IN (old.session, new.session);
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('sessions',4);
INSERT INTO "sqlite_sequence" VALUES('messages',13);
COMMIT;
