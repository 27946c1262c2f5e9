-- records: without the one of project $1, collection $2 and id $3.
DELETE FROM records WHERE project = $1 AND collection = $2 AND id = $3 RETURNING 1
