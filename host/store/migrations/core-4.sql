-- What stands for a session's state, so that whoever kept what it made of one knows whether it still holds. Every update
-- of a row counts, whoever writes it.
ALTER TABLE sessions ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER sessions_change AFTER UPDATE ON sessions WHEN old.revision = new.revision BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id = new.id;
END;

-- Which sessions a list shows, and in which state they are, is read from the index alone.
DROP INDEX sessions_by_time;
DROP INDEX sessions_by_agent;
CREATE INDEX sessions_by_time ON sessions (archived, updated_ms, id, kind, revision);
CREATE INDEX sessions_by_agent ON sessions (agent, archived, updated_ms, id, kind, revision);
