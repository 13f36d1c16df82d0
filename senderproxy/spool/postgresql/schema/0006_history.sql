-- History in tables of its own, in partitions by the time of the end. A program of format 5 leaves a message that it
-- finishes in the general tables, and does not find the history here; the sweep of a newer one moves what it left.
-- oldest: 5

-- One row for each message that is final and has no job. Partitions: see make_history.
CREATE TABLE history (
    finished_at bigint NOT NULL,
    number bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    received_at bigint NOT NULL,
    listener text NOT NULL,
    client text NOT NULL,
    reverse_path text NOT NULL,
    author text NOT NULL,
    account text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    message_id text COLLATE "C",
    report_on text,
    author_key text COLLATE "C" NOT NULL,
    reverse_key text COLLATE "C",
    subject text, -- NULL: not kept
    events text NOT NULL, -- JSON: a list of [at, what, recipients, facts]
    PRIMARY KEY (number, finished_at)
) PARTITION BY RANGE (finished_at);

CREATE INDEX history_by_id ON history (id);
CREATE INDEX history_by_account ON history (account, number);
CREATE INDEX history_by_time ON history (received_at, number);
CREATE INDEX history_by_author ON history (author_key, number);
CREATE INDEX history_by_reverse_path ON history (reverse_key, number) WHERE reverse_key IS NOT NULL;
CREATE INDEX history_by_message_id ON history (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE history_recipient (
    finished_at bigint NOT NULL, -- of the message
    message bigint NOT NULL,
    position integer NOT NULL,
    address text NOT NULL,
    key text COLLATE "C" NOT NULL,
    fate text COLLATE "C" NOT NULL,
    tries integer NOT NULL,
    reply text,
    why text NOT NULL,
    delay_reported integer NOT NULL,
    upstream_id text COLLATE "C",
    lane text COLLATE "C" NOT NULL,
    PRIMARY KEY (message, position, finished_at)
) PARTITION BY RANGE (finished_at);

CREATE INDEX history_recipient_by_address ON history_recipient (key, message);
-- Nearly all are delivered: a search for these reads the newest messages.
CREATE INDEX history_recipient_by_fate ON history_recipient (fate, message) WHERE fate <> 'delivered';
CREATE INDEX history_recipient_by_upstream_id ON history_recipient (upstream_id, message)
    WHERE upstream_id IS NOT NULL;

CREATE TABLE history_word (
    finished_at bigint NOT NULL, -- of the message
    word text COLLATE "C" NOT NULL,
    message bigint NOT NULL,
    PRIMARY KEY (word, message, finished_at)
) PARTITION BY RANGE (finished_at);

-- What ends at a time for which no partition was made: nothing is refused for that reason.
CREATE TABLE history_other PARTITION OF history DEFAULT;
CREATE TABLE history_recipient_other PARTITION OF history_recipient DEFAULT;
CREATE TABLE history_word_other PARTITION OF history_word DEFAULT;
CREATE INDEX history_other_by_end ON history_other (finished_at);
CREATE INDEX history_recipient_other_by_end ON history_recipient_other (finished_at);
CREATE INDEX history_word_other_by_end ON history_word_other (finished_at);

-- The partitions that were made, each of all three tables, named by its beginning.
CREATE TABLE history_part (
    begins bigint PRIMARY KEY, -- milliseconds since 1970
    ends bigint NOT NULL -- exclusive
);

-- Moves a message that is final and has no job into the history; drops a content that is not needed any more. The
-- caller has locked the message. True: it was moved.
CREATE FUNCTION end_message(which bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    ended bigint;
BEGIN
    SELECT m.finished_at INTO ended FROM message m WHERE m.number = which;
    IF ended IS NULL OR EXISTS (SELECT 1 FROM job j WHERE j.message = which AND j.holds_content = 1) THEN
        RETURN false;
    END IF;
    DELETE FROM content_part WHERE message = which;
    DELETE FROM content WHERE message = which;
    IF EXISTS (SELECT 1 FROM job j WHERE j.message = which) THEN
        RETURN false;
    END IF;
    INSERT INTO history (finished_at, number, id, received_at, listener, client, reverse_path, author, account, size,
            message_id, report_on, author_key, reverse_key, subject, events)
        SELECT ended, which, m.id, m.received_at, m.listener, m.client, m.reverse_path, m.author, m.account, m.size,
            m.message_id, m.report_on, m.author_key, m.reverse_key,
            (SELECT s.text FROM subject s WHERE s.message = which),
            (SELECT '[' || coalesce(string_agg(
                '[' || e.at || ',' || to_json(e.what) || ',' || e.recipients || ',' || e.facts || ']',
                ',' ORDER BY e.number), '') || ']' FROM event e WHERE e.message = which)
        FROM message m WHERE m.number = which;
    INSERT INTO history_recipient (finished_at, message, position, address, key, fate, tries, reply, why,
            delay_reported, upstream_id, lane)
        SELECT ended, which, r.position, r.address, r.key, r.fate, r.tries, r.reply, r.why,
            r.delay_reported, r.upstream_id, r.lane
        FROM recipient r WHERE r.message = which;
    INSERT INTO history_word (finished_at, word, message)
        SELECT ended, w.word, which FROM subject_word w WHERE w.message = which;
    DELETE FROM event WHERE message = which;
    DELETE FROM recipient WHERE message = which;
    DELETE FROM subject_word WHERE message = which;
    DELETE FROM subject WHERE message = which;
    DELETE FROM message WHERE number = which;
    RETURN true;
END
$$;

-- Partitions are made and dropped by the owner of the tables: the role of the service changes no table by itself. One
-- instance at a time; one that waits for a lock gives up after half a second, before others wait behind it, and its
-- next sweep tries again. `at`, `before`: milliseconds since 1970. `days`: the width of a new partition.
CREATE FUNCTION make_history(at bigint, days integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = senderproxy, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    a_day CONSTANT bigint := 86400000;
    begins_at bigint := at - at % a_day;
    horizon CONSTANT bigint := begins_at + 7 * a_day; -- made so long ahead
    ends_at bigint;
    covered bigint;
    one text;
    made text;
BEGIN
    IF days < 1 OR NOT pg_try_advisory_xact_lock(5460046) THEN
        RETURN;
    END IF;
    WHILE begins_at <= horizon LOOP
        SELECT p.ends INTO covered FROM history_part p WHERE p.begins <= begins_at AND p.ends > begins_at;
        IF FOUND THEN
            begins_at := covered;
            CONTINUE;
        END IF;
        ends_at := begins_at + days * a_day;
        SELECT least(ends_at, min(p.begins)) INTO ends_at FROM history_part p WHERE p.begins > begins_at;
        -- What ended before its partition was made stays where it is, and so does the rest of that time.
        IF NOT EXISTS (SELECT 1 FROM history_other h WHERE h.finished_at >= begins_at AND h.finished_at < ends_at) THEN
            FOREACH one IN ARRAY ARRAY['history', 'history_recipient', 'history_word'] LOOP
                made := one || '_' || begins_at / a_day; -- days since 1970
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', made, one);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                    one, made, begins_at, ends_at);
            END LOOP;
            INSERT INTO history_part (begins, ends) VALUES (begins_at, ends_at);
        END IF;
        begins_at := ends_at;
    END LOOP;
EXCEPTION WHEN lock_not_available OR check_violation THEN
    RETURN; -- another transaction had a lock for long, or has just ended a message in that time
END
$$;

-- Drops the oldest partition if all of it ended before then. True: there may be another one.
CREATE FUNCTION drop_history(before bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = senderproxy, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    oldest bigint;
    one text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(5460046) THEN
        RETURN false;
    END IF;
    DELETE FROM history_other WHERE finished_at < before;
    DELETE FROM history_recipient_other WHERE finished_at < before;
    DELETE FROM history_word_other WHERE finished_at < before;
    SELECT p.begins INTO oldest FROM history_part p WHERE p.ends <= before ORDER BY p.begins LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    BEGIN
        LOCK TABLE history, history_recipient, history_word IN ACCESS EXCLUSIVE MODE;
        FOREACH one IN ARRAY ARRAY['history', 'history_recipient', 'history_word'] LOOP
            EXECUTE format('DROP TABLE %I', one || '_' || oldest / 86400000);
        END LOOP;
        DELETE FROM history_part WHERE begins = oldest;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    RETURN true;
END
$$;

REVOKE EXECUTE ON FUNCTION make_history(bigint, integer), drop_history(bigint) FROM PUBLIC;
