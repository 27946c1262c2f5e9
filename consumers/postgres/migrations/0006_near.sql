-- Vectors are found by the lists in which an index has those that are near each other, instead of by a graph of one bit a
-- dimension: more of those that are nearest, in a fraction of the time. Lists can be made only of what is there, so there
-- is no index at first, and a new one whenever there are twice as many. Making it for a million takes minutes, in which
-- vectors can be read, but not be written.

-- What of a vector with so many dimensions is indexed: of the widest ones the first 4,000, the most an index can have.
CREATE FUNCTION indexed_part(width int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN width > 4000 THEN '(subvector(embedding, 1, 4000)::halfvec(4000))' ELSE 'embedding' END
$$;

-- Make the index of an embedder's vectors, or make it anew, where there are enough for one with twice as many lists;
-- whether that was done. One at a time: who comes meanwhile leaves it at that.
CREATE FUNCTION index_vectors(embedder int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    vectors text := 'vectors_' || embedder;
    near text := vectors || '_near';
    many bigint;
    lists int;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(current_schema || ' ' || near, 0)) THEN
        RETURN false;
    END IF;
    SELECT reltuples INTO many FROM pg_class WHERE oid = to_regclass(format('%I.%I', current_schema, vectors));
    IF many <= 0 THEN  -- nobody has counted yet
        EXECUTE format('SELECT count(*) FROM %I', vectors) INTO many;
    END IF;
    lists := least(many / 1000, 1000);
    IF lists < 10 OR lists < 2 * coalesce(
        (SELECT option_value::int FROM pg_class, pg_options_to_table(reloptions)
         WHERE oid = to_regclass(format('%I.%I', current_schema, near)) AND option_name = 'lists'), 0
    ) THEN
        RETURN false;
    END IF;
    PERFORM set_config('maintenance_work_mem', '1GB', true);  -- the least for the widest and most
    EXECUTE format(
        'CREATE INDEX %I ON %I USING ivfflat (%s halfvec_cosine_ops) WITH (lists = %s)', near || '_new', vectors,
        (SELECT indexed_part(dimensions) FROM embedders WHERE number = embedder), lists
    );
    EXECUTE format('DROP INDEX IF EXISTS %I', near);
    EXECUTE format('ALTER INDEX %I RENAME TO %I', near || '_new', near);
    RETURN true;
END
$$;

-- The table of an embedder's vectors, made where it is not there yet; null where the server has no pgvector for it.
CREATE OR REPLACE FUNCTION vectors_of(embedder text, width int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found int;
BEGIN
    SELECT number INTO found FROM embedders WHERE name = embedder AND dimensions = width;
    IF FOUND THEN
        RETURN 'vectors_' || found;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema || ' embedders', 0));
    IF to_regtype('halfvec') IS NULL THEN
        BEGIN
            CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
        EXCEPTION WHEN OTHERS THEN
            RETURN NULL;
        END;
    END IF;
    IF to_regtype('halfvec') IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO embedders (name, dimensions) VALUES (embedder, width)
    ON CONFLICT (name, dimensions) DO UPDATE SET name = excluded.name RETURNING number INTO found;
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I (
            memory text COLLATE "C" PRIMARY KEY REFERENCES memories ON DELETE CASCADE,
            project text COLLATE "C" NOT NULL,
            session text COLLATE "C" NOT NULL,
            embedding halfvec(%s) NOT NULL
        )', 'vectors_' || found, width
    );
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON %I (project, session)', 'vectors_' || found || '_of', 'vectors_' || found
    );
    RETURN 'vectors_' || found;
END
$$;

DO $$
DECLARE
    each int;
BEGIN
    FOR each IN SELECT number FROM embedders
        WHERE to_regclass(format('%I.vectors_%s', current_schema, number)) IS NOT NULL ORDER BY number
    LOOP
        IF NOT index_vectors(each) THEN  -- else the old one went at last, so that nobody waited to read
            EXECUTE format('DROP INDEX IF EXISTS %I', 'vectors_' || each || '_near');
        END IF;
    END LOOP;
END
$$;
