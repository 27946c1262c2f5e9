-- events: the $3 next ones after the one of time $1 and id $2.
SELECT at, id, type, packing, data FROM events WHERE at >= $1 AND (at, id) > ($1, $2) ORDER BY at, id LIMIT $3
