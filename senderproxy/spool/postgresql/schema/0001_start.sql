-- The spool in PostgreSQL, format 1. Times are milliseconds since 1970, UTC, by the server's clock, except where a column
-- is a timestamp. Never edited: what changes is a file of its own.
-- oldest: 1

CREATE SEQUENCE message_number AS bigint;

-- One row for each message, from its acceptance until its history ends. `number` is the order of submission.
CREATE TABLE message (
    number bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    received_at bigint NOT NULL,
    listener text NOT NULL,
    client text NOT NULL, -- JSON
    reverse_path text NOT NULL, -- empty: null
    eight_bit integer NOT NULL,
    author text NOT NULL,
    account text COLLATE "C" NOT NULL,
    carrier text,
    size bigint NOT NULL,
    message_id text COLLATE "C", -- NULL: the header has none
    report_on text,
    seal bigint NOT NULL, -- CRC-32 of what never changes above, and of the recipients' addresses
    -- For the searches: the domain, a blank, the local part, in lower case.
    author_key text COLLATE "C" NOT NULL,
    reverse_key text COLLATE "C", -- NULL: the reverse-path is null, or the author's
    faults integer NOT NULL,
    -- What follows is derived from the recipients, in the commit in which they change.
    waiting integer NOT NULL, -- recipients
    held integer NOT NULL, -- recipients
    due_at bigint, -- when the first of the waiting recipients is due; NULL: none waits
    undelayed integer, -- 1: one waits of whom no delay was reported; else NULL
    finished_at bigint -- NULL: one waits or is held
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE UNIQUE INDEX message_by_id ON message (id);
CREATE INDEX message_waiting ON message (received_at, number) WHERE due_at IS NOT NULL;
CREATE INDEX message_undelayed ON message (received_at, number) WHERE undelayed IS NOT NULL;
CREATE INDEX message_open ON message (number) WHERE finished_at IS NULL;
CREATE INDEX message_finished ON message (finished_at, number) WHERE finished_at IS NOT NULL;
CREATE INDEX message_by_account ON message (account, number);
CREATE INDEX message_by_time ON message (received_at, number);
CREATE INDEX message_by_author ON message (author_key, number);
CREATE INDEX message_by_reverse_path ON message (reverse_key, number) WHERE reverse_key IS NOT NULL;
CREATE INDEX message_by_message_id ON message (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE recipient (
    message bigint NOT NULL,
    position integer NOT NULL, -- in the envelope, from 0
    address text NOT NULL,
    key text COLLATE "C" NOT NULL, -- for the searches, as above
    fate text COLLATE "C" NOT NULL,
    due_at bigint,
    tries integer NOT NULL,
    reply text, -- JSON: code, enhanced status or null, lines, host
    why text NOT NULL,
    delay_reported integer NOT NULL,
    upstream_id text COLLATE "C", -- in the upstream's reply to the final dot
    lane text COLLATE "C" NOT NULL, -- a kind, a colon, a name
    PRIMARY KEY (message, position)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX recipient_due ON recipient (lane, due_at, message) WHERE due_at IS NOT NULL;
CREATE INDEX recipient_by_address ON recipient (key, message);
CREATE INDEX recipient_by_fate ON recipient (fate, message);
CREATE INDEX recipient_by_upstream_id ON recipient (upstream_id, message) WHERE upstream_id IS NOT NULL;

CREATE TABLE event (
    message bigint NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY, -- in the order of the commits about one message
    at bigint NOT NULL,
    what text NOT NULL,
    recipients text NOT NULL, -- JSON
    facts text NOT NULL, -- JSON
    PRIMARY KEY (message, number)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- A row for each message that has a recipient that waits or is held, or a job that holds the content.
CREATE TABLE content (
    message bigint PRIMARY KEY,
    header bytea NOT NULL,
    size bigint NOT NULL, -- octets of the body
    checksum bigint NOT NULL, -- CRC-32 of header and body
    is_ascii integer NOT NULL,
    has_long_lines integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE content ALTER COLUMN header SET STORAGE EXTERNAL;

-- The body, dot-stuffed, in parts of 256 KiB.
CREATE TABLE content_part (
    message bigint NOT NULL,
    position integer NOT NULL, -- from 0
    octets bytea NOT NULL,
    PRIMARY KEY (message, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE content_part ALTER COLUMN octets SET STORAGE EXTERNAL;

CREATE TABLE subject (
    message bigint PRIMARY KEY,
    text text NOT NULL CHECK (length(text) <= 200) -- decoded, as it is shown
);

CREATE TABLE subject_word (
    word text COLLATE "C" NOT NULL CHECK (length(word) <= 40),
    message bigint NOT NULL,
    PRIMARY KEY (word, message)
);
CREATE INDEX subject_word_by_message ON subject_word (message, word);

-- One row for each job that is not final.
CREATE TABLE job (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of their creation
    kind text COLLATE "C" NOT NULL,
    lane text COLLATE "C" NOT NULL,
    added_at bigint NOT NULL,
    due_at bigint, -- NULL: the row is damaged; the job is kept for an operator
    attempts integer NOT NULL,
    why text NOT NULL, -- reason of the last retry; empty: none
    payload bytea NOT NULL CHECK (octet_length(payload) <= 16384),
    message bigint, -- number of the message to which it belongs, whose history stays as long; NULL: none
    holds_content integer NOT NULL, -- 1: the content of that message stays until the job is final
    seal bigint NOT NULL -- CRC-32 of what never changes above
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX job_due ON job (kind, lane, due_at, number) WHERE due_at IS NOT NULL;
CREATE INDEX job_by_message ON job (message) WHERE message IS NOT NULL;

CREATE TABLE learned (
    key text COLLATE "C" PRIMARY KEY CHECK (length(key) <= 500), -- a kind, a slash, what it is about
    value text NOT NULL CHECK (length(value) <= 65536), -- JSON
    updated_at bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX learned_by_time ON learned (updated_at);

-- ---- instances and their leases ----

CREATE SEQUENCE lease_number AS bigint;

-- One row for each running service. It holds the advisory lock (class, its number) on the connection of its heartbeat.
CREATE TABLE instance (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL, -- of the machine and the process
    process text NOT NULL, -- its identity for other processes of the machine; empty: unknown
    format integer NOT NULL, -- of its program
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    alive_until timestamptz NOT NULL, -- the end of its leases, unless a heartbeat renews it
    postmaster timestamptz NOT NULL, -- start of the server that has its lock
    unlocked_since timestamptz -- the first look of another instance that found the lock free
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);

CREATE TABLE lease (
    number bigint PRIMARY KEY DEFAULT nextval('lease_number'),
    instance integer NOT NULL REFERENCES instance,
    message bigint NOT NULL,
    lane text COLLATE "C" NOT NULL, -- empty: all lanes of the message
    UNIQUE (message, lane)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX lease_by_instance ON lease (instance);

CREATE TABLE job_lease (
    job bigint PRIMARY KEY,
    number bigint NOT NULL DEFAULT nextval('lease_number'),
    instance integer NOT NULL REFERENCES instance
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX job_lease_by_instance ON job_lease (instance);

-- One row. `stepped`: the sum of all steps of the server's clock by which the due times were moved, in milliseconds.
CREATE TABLE clock (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    stepped bigint NOT NULL
);
INSERT INTO clock (stepped) VALUES (0);

-- Leases one message, unless another lease excludes it. The caller has locked no other message in this transaction for
-- long: a locked one is skipped. NULL: it is not free.
CREATE FUNCTION lease_message(which bigint, of_lane text, by_instance integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    new_lease bigint;
BEGIN
    PERFORM 1 FROM message WHERE number = which FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- From here on no other transaction leases it. This statement sees the leases that were committed before the lock.
    INSERT INTO lease (instance, message, lane)
        SELECT by_instance, which, of_lane
        WHERE NOT EXISTS (
            SELECT 1 FROM lease WHERE message = which AND (of_lane = '' OR lane IN ('', of_lane))
        )
        RETURNING number INTO new_lease;
    RETURN new_lease;
END
$$;

-- The functions below walk an index in order and stop after `most` leases. `at`, `before`: milliseconds since 1970.
CREATE FUNCTION lease_due(of_lane text, at bigint, most integer, by_instance integer)
RETURNS TABLE (lease bigint, leased_message bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    found_count integer := 0;
BEGIN
    FOR leased_message IN
        SELECT r.message FROM recipient r
        WHERE r.lane = of_lane AND r.due_at IS NOT NULL AND r.due_at <= at ORDER BY r.due_at, r.message
    LOOP
        lease := lease_message(leased_message, of_lane, by_instance);
        IF lease IS NOT NULL THEN
            -- An attempt may have ended between the search and the lock.
            IF EXISTS (SELECT 1 FROM recipient r
                       WHERE r.message = leased_message AND r.lane = of_lane AND r.due_at <= at) THEN
                RETURN NEXT;
                found_count := found_count + 1;
                EXIT WHEN found_count >= most;
            ELSE
                DELETE FROM lease l WHERE l.number = lease_due.lease;
            END IF;
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION lease_expired(of_lane text, before bigint, most integer, by_instance integer)
RETURNS TABLE (lease bigint, leased_message bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    found_count integer := 0;
BEGIN
    FOR leased_message IN
        SELECT m.number FROM message m
        WHERE m.due_at IS NOT NULL AND m.received_at < before AND EXISTS (
            SELECT 1 FROM recipient r WHERE r.message = m.number AND r.lane = of_lane AND r.due_at IS NOT NULL
        ) ORDER BY m.received_at, m.number
    LOOP
        lease := lease_message(leased_message, of_lane, by_instance);
        IF lease IS NOT NULL THEN
            IF EXISTS (SELECT 1 FROM recipient r
                       WHERE r.message = leased_message AND r.lane = of_lane AND r.due_at IS NOT NULL) THEN
                RETURN NEXT;
                found_count := found_count + 1;
                EXIT WHEN found_count >= most;
            ELSE
                DELETE FROM lease l WHERE l.number = lease_expired.lease;
            END IF;
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION lease_undelayed(before bigint, most integer, by_instance integer)
RETURNS TABLE (lease bigint, leased_message bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    found_count integer := 0;
BEGIN
    FOR leased_message IN
        SELECT m.number FROM message m
        WHERE m.undelayed IS NOT NULL AND m.received_at < before ORDER BY m.received_at, m.number
    LOOP
        lease := lease_message(leased_message, '', by_instance);
        IF lease IS NOT NULL THEN
            IF EXISTS (SELECT 1 FROM message m WHERE m.number = leased_message AND m.undelayed IS NOT NULL) THEN
                RETURN NEXT;
                found_count := found_count + 1;
                EXIT WHEN found_count >= most;
            ELSE
                DELETE FROM lease l WHERE l.number = lease_undelayed.lease;
            END IF;
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION lease_one(of_id text, by_instance integer)
RETURNS TABLE (lease bigint, leased_message bigint)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT m.number INTO leased_message FROM message m WHERE m.id = of_id AND m.finished_at IS NULL;
    IF FOUND THEN
        lease := lease_message(leased_message, '', by_instance);
        IF lease IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END IF;
END
$$;

CREATE FUNCTION lease_jobs(of_kind text, of_lane text, at bigint, most integer, by_instance integer)
RETURNS TABLE (lease bigint, leased_job bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    found_count integer := 0;
BEGIN
    FOR leased_job IN
        SELECT j.number FROM job j
        WHERE j.kind = of_kind AND j.lane = of_lane AND j.due_at IS NOT NULL AND j.due_at <= at
        ORDER BY j.due_at, j.number
    LOOP
        PERFORM 1 FROM job j WHERE j.number = leased_job AND j.due_at <= at FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO job_lease (job, instance) VALUES (leased_job, by_instance)
            ON CONFLICT DO NOTHING RETURNING number INTO lease;
        IF FOUND THEN
            RETURN NEXT;
            found_count := found_count + 1;
            EXIT WHEN found_count >= most;
        END IF;
    END LOOP;
END
$$;

-- The next due time of each lane with a recipient that is free; one index search for each lane. NULL: all lanes.
CREATE FUNCTION due_times(of_lane text)
RETURNS TABLE (lane text, due_at bigint)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
BEGIN
    lane := of_lane;
    LOOP
        IF of_lane IS NULL THEN
            SELECT r.lane INTO lane FROM recipient r
                WHERE r.due_at IS NOT NULL AND r.lane > coalesce(due_times.lane, '') ORDER BY r.lane, r.due_at LIMIT 1;
            EXIT WHEN NOT FOUND;
        END IF;
        SELECT r.due_at INTO due_at FROM recipient r
            WHERE r.lane = due_times.lane AND r.due_at IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM lease l WHERE l.message = r.message AND l.lane IN ('', due_times.lane)
            ) ORDER BY r.due_at, r.message LIMIT 1;
        IF FOUND THEN
            RETURN NEXT;
        END IF;
        EXIT WHEN of_lane IS NOT NULL;
    END LOOP;
END
$$;

CREATE FUNCTION due_job_times(of_kind text)
RETURNS TABLE (lane text, due_at bigint)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
BEGIN
    LOOP
        SELECT j.lane INTO lane FROM job j
            WHERE j.kind = of_kind AND j.due_at IS NOT NULL AND j.lane > coalesce(due_job_times.lane, '')
            ORDER BY j.lane, j.due_at LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT j.due_at INTO due_at FROM job j
            WHERE j.kind = of_kind AND j.lane = due_job_times.lane AND j.due_at IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM job_lease l WHERE l.job = j.number)
            ORDER BY j.due_at, j.number LIMIT 1;
        IF FOUND THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
