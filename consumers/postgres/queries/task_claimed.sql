-- tasks: those that worker $1 has taken and not published.
SELECT * FROM tasks WHERE status = 'running' AND published_at IS NULL AND worker = $1 ORDER BY rank, id
