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
