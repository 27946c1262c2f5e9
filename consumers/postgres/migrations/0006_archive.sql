-- The archive: when journals are to be looked at again, how far back it reaches, and how its weeks go.

-- A run's journal is archived when the run ends. What comes later is found when it is looked at again, at `due`; only
-- then does the journal go from its server.
CREATE TABLE journals (
    run bytea PRIMARY KEY,
    due timestamptz NOT NULL
);
CREATE INDEX journals_due ON journals (due);

-- One row: of runs submitted before `since` the archive lacks events.
CREATE TABLE archive (
    one bool PRIMARY KEY DEFAULT true CHECK (one),
    since timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO archive DEFAULT VALUES;

-- Drops the weeks of `events` and `effects` that have ended before `until`, and the rows of runs that were over by then;
-- how many partitions that were.
CREATE FUNCTION forget_until(until timestamptz) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    week date := date_trunc('week', until AT TIME ZONE 'UTC')::date;
    part text;
    dropped int := 0;
BEGIN
    FOR part IN
        SELECT tablename FROM pg_tables
        WHERE schemaname = current_schema AND tablename ~ '^(events|effects)_\d{8}$' AND right(tablename, 8) < to_char(week, 'YYYYMMDD')
        ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    -- What lies far off in time goes by when it came.
    DELETE FROM events_rest WHERE split_part(entry, '-', 1)::numeric < extract(epoch FROM week::timestamp AT TIME ZONE 'UTC') * 1000;
    DELETE FROM effects_rest WHERE at < week::timestamp AT TIME ZONE 'UTC';
    IF dropped > 0 THEN
        UPDATE archive SET since = greatest(since, week::timestamp AT TIME ZONE 'UTC');
        WITH over AS (
            DELETE FROM runs USING archive
            WHERE submitted_at < since AND (finished_at IS NULL OR finished_at < since) RETURNING id
        ), answers_of AS (
            DELETE FROM answers USING over WHERE run = over.id
        )
        DELETE FROM steps USING over WHERE run = over.id;
    END IF;
    RETURN dropped;
END
$$;

-- Makes a table `what` equal to the one of that name in schema `shadow`, but for runs the archive does not have whole;
-- how many rows were not as they are there. `run` is the column that names the run, `same` the columns of the key.
CREATE FUNCTION put_in_place(shadow text, what text, run text, same text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    removed bigint;
    added bigint;
BEGIN
    EXECUTE format(
        'DELETE FROM %2$I AS here'
        ' WHERE NOT EXISTS (SELECT FROM %1$I.%2$I AS there WHERE (%4$s) AND here *= there)'
        ' AND NOT EXISTS (SELECT FROM runs AS old, archive WHERE old.id = here.%3$I AND submitted_at < since)',
        shadow, what, run, (SELECT string_agg(format('here.%1$I = there.%1$I', name), ' AND ') FROM unnest(string_to_array(same, ' ')) AS name)
    );
    GET DIAGNOSTICS removed = ROW_COUNT;
    EXECUTE format(
        'INSERT INTO %2$I SELECT * FROM %1$I.%2$I AS there'
        ' WHERE NOT EXISTS (SELECT FROM runs AS old, archive WHERE old.id = there.%3$I AND submitted_at < since)'
        ' AND NOT EXISTS (SELECT FROM %1$I.runs AS old, archive WHERE old.id = there.%3$I AND submitted_at < since)'
        ' ON CONFLICT DO NOTHING',
        shadow, what, run
    );
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN greatest(removed, added);
END
$$;
