-- events: those of one run. $1 run
SELECT stream, entry, type, packing, data FROM events WHERE run = $1 ORDER BY at, id
