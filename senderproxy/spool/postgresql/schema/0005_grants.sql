-- Tokens of grants whose refresh tokens may be spent once, format 5. A program of format 4 would spend its own file's.
-- oldest: 5

-- The tokens are sealed with a key of the vault.
CREATE TABLE oauth_grant (
    id text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0, -- the number of writes
    sealed bytea NOT NULL DEFAULT '',
    written_at bigint NOT NULL, -- milliseconds since 1970, by the server's clock
    lease bigint, -- of the instance that spends the refresh token; NULL: none does
    instance integer, -- that instance; it may have ended
    taken_at timestamptz -- when it began
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 100);

-- Reads a grant, and leases it if the caller has seen the newest version and no other instance spends the refresh token.
-- `request`: the time in which a request ends that was begun after this; a lease does not end sooner.
CREATE FUNCTION take_grant(of_grant text, by_instance integer, seen bigint, at bigint, request interval)
RETURNS TABLE (version bigint, sealed bytea, written_at bigint, lease bigint)
LANGUAGE plpgsql AS $$
DECLARE
    holder integer;
    since timestamptz;
    is_free boolean;
BEGIN
    INSERT INTO oauth_grant AS g (id, written_at) VALUES (of_grant, at) ON CONFLICT DO NOTHING;
    SELECT g.version, g.sealed, g.written_at, g.instance, g.taken_at
        INTO version, sealed, written_at, holder, since
        FROM oauth_grant g WHERE g.id = of_grant FOR UPDATE;
    is_free := holder IS NULL OR holder = by_instance OR (
        since + request < clock_timestamp()
        AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.number = holder AND i.alive_until > clock_timestamp())
    );
    IF is_free AND version = seen THEN
        UPDATE oauth_grant g
            SET lease = nextval('lease_number'), instance = by_instance, taken_at = clock_timestamp()
            WHERE g.id = of_grant RETURNING g.lease INTO lease;
    END IF;
    RETURN NEXT;
END
$$;
