-- The channel on which it is told that there are tasks to do, and with which id one ended.
SELECT 'tasks ' || md5(current_schema)
