-- effects: those of one run. $1 run
SELECT effect, packing, data FROM effects WHERE run = $1 ORDER BY at, effect
