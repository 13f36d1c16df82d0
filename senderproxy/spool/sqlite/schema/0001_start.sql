-- The spool, format 1. Times are milliseconds since 1970, UTC. Never edited: what changes is a file of its own.

-- One row for each message, from its acceptance until its history ends. `number` is the order of submission.
CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    listener TEXT NOT NULL,
    client TEXT NOT NULL, -- JSON
    reverse_path TEXT NOT NULL, -- empty: null
    eight_bit INTEGER NOT NULL,
    author TEXT NOT NULL,
    account TEXT NOT NULL,
    carrier TEXT,
    size INTEGER NOT NULL,
    message_id TEXT, -- NULL: the header has none
    report_on TEXT,
    seal INTEGER NOT NULL, -- CRC-32 of what never changes above, and of the recipients' addresses
    -- For the searches: the domain, a blank, the local part, in lower case.
    author_key TEXT NOT NULL,
    reverse_key TEXT, -- NULL: the reverse-path is null, or the author's
    faults INTEGER NOT NULL,
    -- What follows is worked out from the recipients, in the commit in which they change.
    waiting INTEGER NOT NULL, -- so many recipients
    held INTEGER NOT NULL, -- so many recipients
    due_at INTEGER, -- when the first of the waiting recipients is due; NULL: none waits
    undelayed INTEGER, -- 1: one waits of whom no delay was reported; else NULL
    finished_at INTEGER -- NULL: one waits or is held
) STRICT;

CREATE UNIQUE INDEX message_by_id ON message (id);
CREATE INDEX message_due ON message (account, due_at, number) WHERE due_at IS NOT NULL;
CREATE INDEX message_waiting ON message (account, received_at, number) WHERE due_at IS NOT NULL;
CREATE INDEX message_undelayed ON message (received_at, number) WHERE undelayed IS NOT NULL;
CREATE INDEX message_open ON message (number) WHERE finished_at IS NULL;
CREATE INDEX message_finished ON message (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX message_by_account ON message (account, number);
CREATE INDEX message_by_time ON message (received_at);
CREATE INDEX message_by_author ON message (author_key, number);
CREATE INDEX message_by_reverse_path ON message (reverse_key, number) WHERE reverse_key IS NOT NULL;
CREATE INDEX message_by_message_id ON message (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE recipient (
    message INTEGER NOT NULL,
    position INTEGER NOT NULL, -- in the envelope, from 0
    address TEXT NOT NULL,
    key TEXT NOT NULL, -- for the searches, as above
    fate TEXT NOT NULL,
    due_at INTEGER,
    tries INTEGER NOT NULL,
    reply TEXT, -- JSON: code, enhanced status or null, lines
    why TEXT NOT NULL,
    delay_reported INTEGER NOT NULL,
    upstream_id TEXT, -- what the upstream called the message when it took it
    PRIMARY KEY (message, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX recipient_by_address ON recipient (key, message);
CREATE INDEX recipient_by_fate ON recipient (fate, message);
CREATE INDEX recipient_by_upstream_id ON recipient (upstream_id, message) WHERE upstream_id IS NOT NULL;

CREATE TABLE event (
    message INTEGER NOT NULL,
    position INTEGER NOT NULL, -- in the message's story, from 0
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    recipients TEXT NOT NULL, -- JSON
    facts TEXT NOT NULL, -- JSON
    PRIMARY KEY (message, position)
) STRICT, WITHOUT ROWID;

-- A row for each message of which a recipient waits or is held, and for no other.
CREATE TABLE content (
    message INTEGER PRIMARY KEY,
    header BLOB NOT NULL,
    body BLOB, -- dot-stuffed, as it travels; NULL: in the file
    file TEXT, -- its name in the folder `content`; NULL: in the row
    size INTEGER NOT NULL, -- octets of the body
    checksum INTEGER NOT NULL, -- CRC-32 of header and body
    is_ascii INTEGER NOT NULL,
    has_long_lines INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX content_by_file ON content (file) WHERE file IS NOT NULL;
