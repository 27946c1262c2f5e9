-- journals: those of runs $1 are due again in $2 seconds, or where those are null, never; two lists.
WITH looked AS (SELECT run, seconds FROM unnest($1::bytea[], $2::float8[]) AS looked (run, seconds)),
gone AS (DELETE FROM journals USING looked WHERE journals.run = looked.run AND seconds IS NULL)
UPDATE journals SET due = now() + make_interval(secs => seconds)
FROM looked WHERE journals.run = looked.run AND seconds IS NOT NULL
