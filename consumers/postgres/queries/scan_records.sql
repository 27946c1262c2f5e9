-- records: those of project $1 and collection $2 from $3 on and before $4, either of which may be null, by time.
SELECT id, data FROM records
WHERE project = $1 AND collection = $2
    AND at >= coalesce($3, '-infinity'::timestamptz) AND at < coalesce($4, 'infinity'::timestamptz)
ORDER BY at, id
