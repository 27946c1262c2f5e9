-- records: give the one of project $1, collection $2 and id $3 time $4 and data $5, if there is one.
UPDATE records SET at = $4, data = $5 WHERE project = $1 AND collection = $2 AND id = $3 RETURNING 1
