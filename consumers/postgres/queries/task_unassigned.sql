-- tasks: the first $1 whose turn comes, of those that have no assignee.
SELECT id, goal, expert, capability FROM tasks WHERE status = 'pending' AND rank IS NOT NULL ORDER BY rank, id LIMIT $1
