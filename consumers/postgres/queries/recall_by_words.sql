-- Ids from memories, of project $1 and session $2 or none: those with the words of a searchable text ($3) that are the
-- rarest (memory_words), the best $4. Words that too many memories have together ($5) find none, they only add to what
-- rarer ones have found: so what is read stays little, however much there is. Words are a project's own, and found
-- first: a large project's memories are never gone through.
WITH asked AS (
    SELECT word, 1 / (1 + ln(memories)) AS weight, sum(memories) OVER (ORDER BY memories, word) AS together
    FROM unnest(words_of($1, $3)) AS word JOIN memory_words USING (word)
    WHERE memories > 0
), found AS MATERIALIZED (
    SELECT id, project, session, words FROM memories
    WHERE words && (SELECT array_agg(word) FROM asked WHERE together <= $5)
)
SELECT id FROM found, LATERAL (SELECT sum(weight) AS weight FROM asked WHERE word = ANY (found.words)) AS score
WHERE project = $1 AND session IN ('', $2)
ORDER BY weight DESC, id
LIMIT $4
