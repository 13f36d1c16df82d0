-- Hourly limits that all instances share, format 3. A program of format 2 would send beyond them, so none may run.
-- oldest: 3

-- What has been used. Several rows of one minute add up; a negative one takes back what was not accepted.
CREATE TABLE hourly_use (
    account text COLLATE "C" NOT NULL,
    counts_until bigint NOT NULL, -- an hour after the last moment of its minute, by the server's clock
    messages integer NOT NULL,
    recipients integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX hourly_use_by_account ON hourly_use (account, counts_until);
CREATE INDEX hourly_use_by_time ON hourly_use (counts_until);

-- What an instance may use without asking, or has used and not reported yet.
CREATE TABLE hourly_portion (
    account text COLLATE "C" NOT NULL,
    instance integer NOT NULL REFERENCES instance,
    exchange bigint NOT NULL, -- number of the last one, so that the outcome of a lost COMMIT can be looked up
    messages integer NOT NULL,
    recipients integer NOT NULL,
    PRIMARY KEY (account, instance)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX hourly_portion_by_instance ON hourly_portion (instance);

-- Reports the use of one account by one instance, and grants it a new portion. `at`: milliseconds since 1970, and
-- `of_step`: the steps of the clock that are in it. No row: the clock was set, and this instance has not noticed yet.
-- `kept`: the part of its portion that it has not used and does not give back. A limit that is NULL is none.
CREATE FUNCTION exchange_hourly(
    of_account text, by_instance integer, exchange_number bigint, at bigint, of_step bigint,
    used_until bigint[], used_messages integer[], used_recipients integer[],
    kept_messages integer, kept_recipients integer, needed_messages integer, needed_recipients integer,
    with_spare boolean, is_answer boolean, limit_messages integer, limit_recipients integer
)
RETURNS TABLE (
    granted_messages integer, granted_recipients integer, is_enough boolean,
    left_messages integer, left_recipients integer, is_held_elsewhere boolean, enough_at bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    held_messages bigint;
    held_recipients bigint;
    shares bigint;
BEGIN
    -- One exchange at a time for each account, and none while the times are moved after a step of the clock.
    PERFORM pg_advisory_xact_lock(21330, hashtext(of_account));
    PERFORM 1 FROM clock WHERE stepped = of_step FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM hourly_use u WHERE u.account = of_account AND u.counts_until <= at;
    INSERT INTO hourly_use (account, counts_until, messages, recipients)
        SELECT of_account, used.counts_until, used.messages, used.recipients
        FROM unnest(used_until, used_messages, used_recipients) AS used (counts_until, messages, recipients)
        WHERE used.counts_until > at;
    -- One statement, so one view of both tables: an instance that ended may be moved from one to the other meanwhile.
    SELECT limit_messages - kept_messages - used.messages - held.messages,
           limit_recipients - kept_recipients - used.recipients - held.recipients,
           held.messages, held.recipients, alive.shares
        INTO left_messages, left_recipients, held_messages, held_recipients, shares
        FROM (SELECT coalesce(sum(u.messages), 0) AS messages, coalesce(sum(u.recipients), 0) AS recipients
              FROM hourly_use u WHERE u.account = of_account) AS used,
             (SELECT coalesce(sum(p.messages), 0) AS messages, coalesce(sum(p.recipients), 0) AS recipients
              FROM hourly_portion p WHERE p.account = of_account AND p.instance <> by_instance) AS held,
             (SELECT 2 * greatest(1, count(*)) AS shares FROM instance) AS alive;
    is_enough := coalesce(left_messages >= needed_messages, true) AND coalesce(left_recipients >= needed_recipients, true);
    granted_messages := 0;
    granted_recipients := 0;
    is_held_elsewhere := false;
    IF is_enough THEN
        IF limit_messages IS NOT NULL THEN
            granted_messages := needed_messages;
            IF with_spare THEN
                granted_messages := granted_messages
                    + greatest(0, least(limit_messages / 10 - kept_messages, (left_messages - needed_messages) / shares));
            END IF;
            left_messages := left_messages - granted_messages;
        END IF;
        IF limit_recipients IS NOT NULL THEN
            granted_recipients := needed_recipients;
            IF with_spare THEN
                granted_recipients := granted_recipients
                    + greatest(0, least(limit_recipients / 10 - kept_recipients, (left_recipients - needed_recipients) / shares));
            END IF;
            left_recipients := left_recipients - granted_recipients;
        END IF;
    ELSE
        is_held_elsewhere := (left_messages < needed_messages AND held_messages > 0) IS TRUE
            OR (left_recipients < needed_recipients AND held_recipients > 0) IS TRUE;
        IF is_held_elsewhere THEN
            PERFORM pg_notify('senderproxy_limits', by_instance || ' wanted ' || of_account);
        ELSE
            SELECT min(freed.counts_until) INTO enough_at
                FROM (SELECT u.counts_until,
                             sum(u.messages) OVER so_far AS messages, sum(u.recipients) OVER so_far AS recipients
                      FROM hourly_use u WHERE u.account = of_account
                      WINDOW so_far AS (ORDER BY u.counts_until)) AS freed
                WHERE coalesce(left_messages + freed.messages >= needed_messages, true)
                    AND coalesce(left_recipients + freed.recipients >= needed_recipients, true);
        END IF;
    END IF;
    INSERT INTO hourly_portion AS p (account, instance, exchange, messages, recipients)
        VALUES (of_account, by_instance, exchange_number,
                kept_messages + granted_messages, kept_recipients + granted_recipients)
        ON CONFLICT (account, instance) DO UPDATE
            SET exchange = excluded.exchange, messages = excluded.messages, recipients = excluded.recipients;
    IF is_answer THEN
        PERFORM pg_notify('senderproxy_limits', by_instance || ' returned ' || of_account);
    END IF;
    RETURN NEXT;
END
$$;

-- The use of an instance that has ended: all of its portions, until an hour after the end of its leases. It has used
-- nothing after that.
CREATE FUNCTION end_portions(of_instance integer) RETURNS void
LANGUAGE sql AS $$
    WITH ended AS (DELETE FROM hourly_portion WHERE instance = of_instance RETURNING account, messages, recipients)
    INSERT INTO hourly_use (account, counts_until, messages, recipients)
        SELECT ended.account, ceil(extract(epoch FROM instance.alive_until) * 1000)::bigint + 3600000,
               ended.messages, ended.recipients
        FROM ended JOIN instance ON instance.number = of_instance
        WHERE ended.messages > 0 OR ended.recipients > 0;
$$;
