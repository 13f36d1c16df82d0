-- The spool, format 2. Each recipient has its lane; jobs; records of what the service has learned.

-- The lane of a recipient: a kind, a colon, a name. NULL: the recipient was final before format 2.
ALTER TABLE recipient ADD COLUMN lane TEXT;
UPDATE recipient SET lane = 'account:' || (SELECT account FROM message WHERE number = recipient.message)
    WHERE message IN (SELECT number FROM message INDEXED BY message_open WHERE finished_at IS NULL);

DROP INDEX message_due;
CREATE INDEX recipient_due ON recipient (lane, due_at, message) WHERE due_at IS NOT NULL;
DROP INDEX message_waiting;
CREATE INDEX message_waiting ON message (received_at, number) WHERE due_at IS NOT NULL;

-- One row for each job that is not final.
CREATE TABLE job (
    number INTEGER PRIMARY KEY, -- in the order of their creation
    kind TEXT NOT NULL,
    lane TEXT NOT NULL, -- as above
    added_at INTEGER NOT NULL,
    due_at INTEGER, -- NULL: the row is damaged; the job is kept for an operator
    attempts INTEGER NOT NULL,
    why TEXT NOT NULL, -- reason of the last retry; empty: none
    payload BLOB NOT NULL CHECK (length(payload) <= 16384),
    message INTEGER, -- number of the message to which it belongs, whose history stays as long; NULL: none
    holds_content INTEGER NOT NULL, -- 1: the content of that message stays until the job is final
    seal INTEGER NOT NULL -- CRC-32 of what never changes above
) STRICT;

CREATE INDEX job_due ON job (kind, lane, due_at, number) WHERE due_at IS NOT NULL;
CREATE INDEX job_by_message ON job (message) WHERE message IS NOT NULL;

-- Records of what the service has learned, for its next start. Above its limits, the program deletes the oldest ones.
CREATE TABLE learned (
    key TEXT NOT NULL PRIMARY KEY CHECK (length(key) <= 500), -- a kind, a slash, what it is about
    value TEXT NOT NULL CHECK (length(value) <= 65536), -- JSON
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX learned_by_time ON learned (updated_at);
