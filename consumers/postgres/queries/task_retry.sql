-- tasks: the one with id $1, which did not end well, once more from the start.
UPDATE tasks
SET status = 'pending', assignee = '', attempts = greatest(attempts, attempt + 1), not_before = now(),
    cancel_asked = false, output = '', error = NULL, knowledge = NULL, finished_at = NULL
WHERE id = $1 AND status IN ('failed', 'cancelled')
RETURNING *
