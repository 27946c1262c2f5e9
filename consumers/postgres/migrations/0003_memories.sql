-- What runs left behind for later ones, found again by its words and by its meaning.
--
-- A memory without a session is all its project's. `words` are numbers that stand for a project's words in their base
-- form, so that one index finds the rare words of one project, however many others use them too.

CREATE TABLE memories (
    id text COLLATE "C" PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    tag text NOT NULL,
    text text NOT NULL,
    trust text NOT NULL,
    source text NOT NULL,
    words bigint[] NOT NULL
);
CREATE INDEX memories_of_session ON memories (project, session, at, id);
CREATE INDEX memories_by_word ON memories USING gin (words) WITH (fastupdate = off);

CREATE TABLE memory_words (
    word bigint PRIMARY KEY,
    memories int NOT NULL
);
COMMENT ON TABLE memory_words IS 'In how many memories a word is: what is in most of them says little.';

-- What stands for the words of a text in a project. The configuration knows the base forms of Russian words and, for
-- what is in Latin letters, of English ones; whatever has neither goes as it is.
CREATE FUNCTION words_of(project text, said text) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(('x' || encode(substr(hash, 1, 8), 'hex'))::bit(64)::bigint), '{}')
    FROM unnest(tsvector_to_array(to_tsvector('pg_catalog.russian', said))) AS word,
        sha256(convert_to(project || ' ' || word, 'UTF8')) AS hash
$$;

-- Vectors of different embedders can't be compared: each has a table of its own, `vectors_<number>`.
CREATE TABLE embedders (
    number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    dimensions int NOT NULL,
    UNIQUE (name, dimensions)
);

-- The table of an embedder's vectors, made where it is not there yet; null where the server has no pgvector for it.
CREATE FUNCTION vectors_of(embedder text, width int) RETURNS text LANGUAGE plpgsql AS $$
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
    -- By one bit a dimension: a thirtieth of the size, and what it finds is compared in full afterwards.
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON %I USING hnsw ((binary_quantize(embedding)::bit(%s)) bit_hamming_ops)',
        'vectors_' || found || '_near', 'vectors_' || found, width
    );
    RETURN 'vectors_' || found;
END
$$;
