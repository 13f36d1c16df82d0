-- Connections of accounts that all instances share, format 4. A program of format 3 does not count its own.
-- oldest: 4

-- Sessions of one account that an instance has open, or is about to open. A row ends with its instance.
CREATE TABLE connection_slot (
    account text COLLATE "C" NOT NULL,
    instance integer NOT NULL REFERENCES instance,
    sessions integer NOT NULL,
    PRIMARY KEY (account, instance)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX connection_slot_by_instance ON connection_slot (instance);

-- True if the instance may have so many sessions of the account. `is_urgent`: it has none, so others may give one up.
CREATE FUNCTION take_connection(
    of_account text, by_instance integer, wanted integer, most integer, is_urgent boolean
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    fits boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(21331, hashtext(of_account));
    SELECT coalesce(sum(s.sessions), 0) + wanted <= most INTO fits
        FROM connection_slot s WHERE s.account = of_account AND s.instance <> by_instance;
    INSERT INTO connection_slot AS s (account, instance, sessions)
        VALUES (of_account, by_instance, CASE WHEN fits THEN wanted ELSE wanted - 1 END)
        ON CONFLICT (account, instance) DO UPDATE SET sessions = excluded.sessions;
    IF is_urgent AND NOT fits THEN
        PERFORM pg_notify('senderproxy_connections', by_instance || ' wanted ' || of_account);
    END IF;
    RETURN fits;
END
$$;

-- Reports the sessions of an account. `is_answer`: others wait for one that was closed.
CREATE FUNCTION set_connections(of_account text, by_instance integer, open_now integer, is_answer boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(21331, hashtext(of_account));
    IF open_now = 0 THEN
        DELETE FROM connection_slot s WHERE s.account = of_account AND s.instance = by_instance;
    ELSE
        INSERT INTO connection_slot AS s (account, instance, sessions) VALUES (of_account, by_instance, open_now)
            ON CONFLICT (account, instance) DO UPDATE SET sessions = excluded.sessions;
    END IF;
    IF is_answer THEN
        PERFORM pg_notify('senderproxy_connections', by_instance || ' freed ' || of_account);
    END IF;
END
$$;
