-- What schema version 1 of plugin-kv.db looks like with something in it. Never edited: databases like this exist.
PRAGMA application_id = 0x4c436b76;
PRAGMA user_version = 1;

-- One row per plugin and account. It stays when the entries are cleared, so that revisions never come back.
CREATE TABLE owners (
    id INTEGER PRIMARY KEY,
    plugin TEXT NOT NULL,
    account TEXT NOT NULL,
    revision INTEGER NOT NULL, -- the last one given out
    stored_bytes INTEGER NOT NULL, -- keys and values, expired entries that are not swept yet included
    UNIQUE (plugin, account)
) STRICT;

-- Keys are blobs so that they sort and compare by their bytes. The value comes last: a reader of the other columns never
-- touches its pages.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL REFERENCES owners (id),
    key BLOB NOT NULL,
    revision INTEGER NOT NULL,
    expires_at_ms INTEGER, -- null: never
    bytes INTEGER NOT NULL, -- key and value
    value BLOB NOT NULL,
    UNIQUE (owner, key)
) STRICT;
CREATE INDEX entries_by_expiry ON entries (owner, expires_at_ms, bytes) WHERE expires_at_ms IS NOT NULL;

INSERT INTO owners VALUES (1, 'notes', 'default', 9, 4);
INSERT INTO entries VALUES (1, 1, x'6b', 9, NULL, 4, x'010203');
