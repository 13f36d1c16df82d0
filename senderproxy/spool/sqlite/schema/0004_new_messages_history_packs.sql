-- The spool, format 4. A narrow table for new messages, and packs of finished ones.

-- One row for each message that nothing has changed since its acceptance: all of its recipients wait in one lane, due
-- since `received_at`, and its content is here. What changes it moves it into the tables above, or into a pack.
CREATE TABLE new_message (
    number INTEGER PRIMARY KEY, -- in the same order as those of `message`
    id TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    listener TEXT NOT NULL,
    client TEXT NOT NULL,
    reverse_path TEXT NOT NULL,
    eight_bit INTEGER NOT NULL,
    author TEXT NOT NULL,
    account TEXT NOT NULL,
    carrier TEXT,
    size INTEGER NOT NULL,
    message_id TEXT,
    report_on TEXT,
    seal INTEGER NOT NULL, -- all of these as in `message`
    lane TEXT NOT NULL,
    recipients TEXT NOT NULL, -- addresses in the order of the envelope, a line feed between two
    waiting INTEGER NOT NULL, -- so many recipients
    events TEXT NOT NULL, -- JSON: time, what, recipients, facts of each
    checksum INTEGER NOT NULL, -- this and what follows as in `content`
    is_ascii INTEGER NOT NULL,
    has_long_lines INTEGER NOT NULL,
    header BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX new_message_by_id ON new_message (id);
CREATE INDEX new_message_due ON new_message (lane, received_at, number);

-- History of messages that were finished in one commit and are in no other table; never changed, deleted as a whole.
CREATE TABLE history_pack (
    number INTEGER PRIMARY KEY,
    first INTEGER NOT NULL, -- lowest number of its messages
    last INTEGER NOT NULL, -- highest
    oldest INTEGER NOT NULL, -- first time of reception
    newest INTEGER NOT NULL, -- last
    finished_at INTEGER NOT NULL, -- last time at which one was finished
    messages INTEGER NOT NULL, -- so many
    has_subjects INTEGER NOT NULL, -- 1: one has a row in `subject`
    by_hour TEXT NOT NULL, -- JSON: hour since 1970, fate, number of recipients
    keys BLOB NOT NULL, -- CRC-32 of each id, in the order of the messages, then of everything else that is searched for
    records BLOB NOT NULL -- zlib, JSON
) STRICT;

CREATE INDEX history_pack_overview ON history_pack (last, first, oldest, newest);
CREATE INDEX history_pack_finished ON history_pack (finished_at);
