-- migrations: all that were applied.
SELECT name, checksum, applied_at FROM migrations ORDER BY name
