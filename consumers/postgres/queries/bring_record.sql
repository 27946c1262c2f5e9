-- records: one from another store, of project $1, collection $2, with id $3, time $4 and data $5; what is here stays.
INSERT INTO records (project, collection, id, at, data) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
