-- tasks: the one with id $1.
SELECT * FROM tasks WHERE id = $1
