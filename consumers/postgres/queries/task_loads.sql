-- tasks: how many each assignee has in hand.
SELECT assignee, count(*)::int AS tasks FROM tasks WHERE status IN ('assigned', 'running') GROUP BY assignee
