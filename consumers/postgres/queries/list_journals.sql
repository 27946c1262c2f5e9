-- journals: those of runs $1, a list, are to be looked at in $2 seconds; which are new.
INSERT INTO journals (run, due)
SELECT run, now() + make_interval(secs => $2) FROM unnest($1::bytea[]) AS said (run)
ON CONFLICT DO NOTHING
