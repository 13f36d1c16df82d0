-- Connections at a server as a whole, format 7. A program of format 6 may go on: it counts those of accounts as before,
-- and its rows name no server.
-- oldest: 6

-- The hosts of the account's provider; empty: not known. Each session is in one row, for its account and its server.
ALTER TABLE connection_slot ADD COLUMN server text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX connection_slot_by_server ON connection_slot (server) WHERE server <> '';

-- NULL if the instance may have so many sessions of the account, else the limit that forbids it. `at_most`: at the
-- server, in all instances and of all accounts; NULL: no limit is known. `is_urgent`: the instance has no session of the
-- account; `is_first`: it has none at the server.
CREATE FUNCTION take_connection(
    of_account text, by_instance integer, wanted integer, most integer, is_urgent boolean,
    at_server text, at_most integer, is_first boolean
) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    reached text;
BEGIN
    IF at_most IS NOT NULL THEN -- always before the lock of the account
        PERFORM pg_advisory_xact_lock(21332, hashtext(at_server));
    END IF;
    PERFORM pg_advisory_xact_lock(21331, hashtext(of_account));
    SELECT 'account' INTO reached
        FROM connection_slot s WHERE s.account = of_account AND s.instance <> by_instance
        HAVING coalesce(sum(s.sessions), 0) + wanted > most;
    IF reached IS NULL AND at_most IS NOT NULL THEN
        SELECT 'server' INTO reached
            FROM connection_slot s
            WHERE s.server = at_server AND s.server <> ''
                AND NOT (s.account = of_account AND s.instance = by_instance)
            HAVING coalesce(sum(s.sessions), 0) + wanted > at_most;
    END IF;
    INSERT INTO connection_slot AS s (account, instance, sessions, server)
        VALUES (of_account, by_instance, CASE WHEN reached IS NULL THEN wanted ELSE wanted - 1 END, at_server)
        ON CONFLICT (account, instance) DO UPDATE SET sessions = excluded.sessions, server = excluded.server;
    IF reached = 'account' AND is_urgent THEN
        PERFORM pg_notify('senderproxy_connections', by_instance || ' wanted ' || of_account);
    ELSIF reached = 'server' AND is_first THEN
        PERFORM pg_notify('senderproxy_connections', by_instance || ' wanted-at ' || at_server);
    END IF;
    RETURN reached;
END
$$;

-- Reports the sessions of an account after the server refused a further one. Returns the number of sessions at the
-- server. `is_first`: the instance has none there.
CREATE FUNCTION refuse_connection(
    of_account text, by_instance integer, open_now integer, at_server text, is_first boolean
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(21332, hashtext(at_server)); -- of several that were refused the last one counts none
    PERFORM set_connections(of_account, by_instance, open_now, at_server, false, false);
    SELECT coalesce(sum(s.sessions), 0) INTO found
        FROM connection_slot s WHERE s.server = at_server AND s.server <> '';
    IF is_first AND found > 0 THEN
        PERFORM pg_notify('senderproxy_connections', by_instance || ' wanted-at ' || at_server);
    END IF;
    RETURN found;
END
$$;

-- Reports the sessions of an account. `for_account`, `for_server`: others wait for one that was closed.
CREATE FUNCTION set_connections(
    of_account text, by_instance integer, open_now integer, at_server text, for_account boolean, for_server boolean
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(21331, hashtext(of_account));
    IF open_now = 0 THEN
        DELETE FROM connection_slot s WHERE s.account = of_account AND s.instance = by_instance;
    ELSE
        INSERT INTO connection_slot AS s (account, instance, sessions, server)
            VALUES (of_account, by_instance, open_now, at_server)
            ON CONFLICT (account, instance) DO UPDATE SET sessions = excluded.sessions, server = excluded.server;
    END IF;
    IF for_account THEN
        PERFORM pg_notify('senderproxy_connections', by_instance || ' freed ' || of_account);
    END IF;
    IF for_server THEN
        PERFORM pg_notify('senderproxy_connections', by_instance || ' freed-at ' || at_server);
    END IF;
END
$$;
