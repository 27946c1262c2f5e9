-- tasks: the one with id $1 is not wanted any more. One whose run is under way ends when that does.
UPDATE tasks
SET cancel_asked = true,
    status = CASE WHEN status = 'running' AND published_at IS NOT NULL THEN status ELSE 'cancelled' END,
    finished_at = CASE WHEN status = 'running' AND published_at IS NOT NULL THEN finished_at ELSE now() END
WHERE id = $1 AND status NOT IN ('completed', 'failed', 'cancelled')
RETURNING *
