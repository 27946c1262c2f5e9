-- What projections write: runs, their steps and answers; every event, and every recorded effect, by time.
--
-- All rows are found again by what made them, so writing them twice changes nothing, in whatever order events come: each
-- column is said by one type of event. Events and effects are partitioned by weeks; what lies far off is in *_rest.

CREATE TABLE positions (
    projection text NOT NULL,
    stream text NOT NULL,
    ms numeric(20) NOT NULL,
    seq numeric(20) NOT NULL,
    PRIMARY KEY (projection, stream)
);
COMMENT ON TABLE positions IS 'The last entry of a stream (`<partition>:<stream>`) whose rows a projection has written.';

CREATE TABLE runs (
    id text PRIMARY KEY,
    submitted_at timestamptz,
    goal text,
    project text,
    session text,
    wanted_strategy text,
    wanted_expert text,
    understood_at timestamptz,
    restated text,
    category text,
    kind text,
    strategy text,
    revision int,
    status text NOT NULL DEFAULT 'running',
    finished_at timestamptz,
    method text,
    error jsonb
);
CREATE INDEX runs_by_time ON runs (submitted_at);
CREATE INDEX runs_of_session ON runs (session, submitted_at) WHERE session <> '';

CREATE TABLE steps (
    run text NOT NULL,
    id text NOT NULL,
    revision int,
    title text,
    wanted_expert text,
    started_at timestamptz,
    status text NOT NULL DEFAULT 'pending',
    finished_at timestamptz,
    expert text,
    agent text,
    source text,
    tools text[],
    output text,
    error jsonb,
    PRIMARY KEY (run, id)
);

CREATE TABLE answers (
    run text PRIMARY KEY,
    at timestamptz NOT NULL,
    status text NOT NULL,
    method text NOT NULL,
    output text NOT NULL,
    trust text NOT NULL,
    metadata jsonb NOT NULL
);

-- `data` is the envelope as it was on its stream, in JSON, where `packing` is 0. The time comes first in the key: ids are
-- random, and an index that grows at its end stays in memory.
CREATE TABLE events (
    at timestamptz NOT NULL,
    id text NOT NULL,
    run text NOT NULL,
    type text NOT NULL,
    stream text NOT NULL,
    entry text NOT NULL,
    packing smallint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX events_of_run ON events (run, at);
CREATE TABLE events_rest PARTITION OF events DEFAULT;

-- The journal: `data` is the record of effect `<event id>/<name>` as it was in its run's journal.
CREATE TABLE effects (
    at timestamptz NOT NULL,
    run text NOT NULL,
    effect text NOT NULL,
    kind text NOT NULL,
    model text NOT NULL,
    seconds real NOT NULL,
    packing smallint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (at, run, effect)
) PARTITION BY RANGE (at);
CREATE INDEX effects_of_run ON effects (run, at);
CREATE TABLE effects_rest PARTITION OF effects DEFAULT;

-- Makes the partitions for all weeks from `first` to `last` that are not there yet; how many that were. What of these
-- weeks is in the rest moves into them.
CREATE FUNCTION make_partitions(parent text, first date, last date) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    week date;
    part text;
    made int := 0;
BEGIN
    FOR week IN SELECT generate_series(date_trunc('week', first), last, '7 days')::date LOOP
        part := format('%s_%s', parent, to_char(week, 'YYYYMMDD'));
        CONTINUE WHEN EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema AND tablename = part);
        PERFORM pg_advisory_xact_lock(hashtextextended(current_schema || ' partitions of ' || parent, 0));
        CONTINUE WHEN EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema AND tablename = part);
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
        EXECUTE format(
            'WITH moved AS (DELETE FROM %I WHERE at >= %L AND at < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
            parent || '_rest', week || ' 00:00+00', week + 7 || ' 00:00+00', part
        );
        EXECUTE format(
            'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, part, week || ' 00:00+00', week + 7 || ' 00:00+00'
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
