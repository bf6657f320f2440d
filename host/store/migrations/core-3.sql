-- What was said under an idempotency key, so that saying it again is noticed without reading what else was said.
CREATE INDEX messages_by_idempotency_key ON messages (session, body ->> '$.idempotencyKey')
WHERE json_type(body, '$.idempotencyKey') = 'text';
