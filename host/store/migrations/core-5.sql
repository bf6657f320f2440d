-- What was said counts as a part of a session's state, whoever changes it. A session that is gone has none.
CREATE TRIGGER messages_come AFTER INSERT ON messages BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id = new.session;
END;
CREATE TRIGGER messages_go AFTER DELETE ON messages BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id = old.session;
END;
CREATE TRIGGER messages_change AFTER UPDATE ON messages BEGIN
    UPDATE sessions SET revision = revision + 1 WHERE id IN (old.session, new.session);
END;
