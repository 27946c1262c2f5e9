-- Remove the memory of id $1 from memories, with its vectors, and its words from memory_words; whether there was one.
-- The insertion, of what is there already, counts words in the order in which who keeps some does too.
WITH gone AS (
    DELETE FROM memories WHERE id = $1 RETURNING words
), counted AS (
    INSERT INTO memory_words AS known (word, memories)
    SELECT word, 0 FROM gone, unnest(words) AS word ORDER BY word
    ON CONFLICT (word) DO UPDATE SET memories = known.memories - 1
)
SELECT EXISTS (SELECT FROM gone)
