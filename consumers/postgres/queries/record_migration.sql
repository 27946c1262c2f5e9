-- migrations: one more is applied. $1 name, $2 checksum.
INSERT INTO migrations (name, checksum) VALUES ($1, $2)
