-- Up to $2 memories after id $1 that have none in {vectors}.
SELECT id, text FROM memories
WHERE id > $1 AND NOT EXISTS (SELECT FROM {vectors} WHERE memory = id)
ORDER BY id
LIMIT $2
