-- Keep a memory ($1 to $8, with $9 its searchable text) in memories and its words in memory_words, once; whether it was
-- new. Words come in their order, so that two who keep at once never wait for each other.
WITH kept AS (
    INSERT INTO memories (id, project, session, at, tag, text, trust, source, words)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, words_of($2, $9))
    ON CONFLICT (id) DO NOTHING
    RETURNING words
), counted AS (
    INSERT INTO memory_words AS known (word, memories)
    SELECT word, 1 FROM kept, unnest(words) AS word ORDER BY word
    ON CONFLICT (word) DO UPDATE SET memories = known.memories + 1
)
SELECT EXISTS (SELECT FROM kept)
