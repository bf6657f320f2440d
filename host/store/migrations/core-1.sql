-- What admins granted: one row per plugin and account.
CREATE TABLE grants (
    plugin TEXT NOT NULL,
    account TEXT NOT NULL,
    permissions TEXT NOT NULL, -- JSON
    granted_at_ms INTEGER NOT NULL,
    granted_by TEXT NOT NULL,
    decided TEXT NOT NULL, -- JSON: what the manifest asked for then
    PRIMARY KEY (plugin, account)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: an id that a reader has seen never comes back with another row.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    plugin TEXT,
    account TEXT, -- null for the default account and for rows about the whole plugin
    record TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX audit_by_plugin ON audit (plugin, id) WHERE plugin IS NOT NULL;
CREATE INDEX audit_by_kind ON audit (kind, id);

-- What a component says of itself, so that it need not be run to be listed.
CREATE TABLE specs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256 TEXT NOT NULL UNIQUE,
    specs TEXT NOT NULL -- JSON
) STRICT;

-- Messages that channels handed in.
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    plugin TEXT NOT NULL,
    account TEXT NOT NULL,
    channel TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received TEXT NOT NULL, -- JSON, the bytes of its blobs left out
    UNIQUE (plugin, account, channel, message_id)
) STRICT;

-- The bytes of a message's blobs. JSON would take four bytes for one.
CREATE TABLE inbox_blobs (
    inbox_id INTEGER NOT NULL REFERENCES inbox (id) ON DELETE CASCADE,
    part INTEGER NOT NULL, -- position in the message's parts, from 0
    data BLOB NOT NULL,
    PRIMARY KEY (inbox_id, part)
) STRICT;

CREATE TABLE secrets (
    plugin TEXT NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (plugin, account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
