-- The channel on which tasks tell what they wait for, and that they have ended.
SELECT 'tasks ' || md5(current_schema)
