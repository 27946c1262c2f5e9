-- tasks: the newest $2 with status $1, '' for any.
SELECT * FROM tasks WHERE $1 = '' OR status = $1 ORDER BY created_at DESC, id LIMIT $2
