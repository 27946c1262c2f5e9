-- tasks, answers, runs: those whose runs were published, for how many seconds, and what is known here of the runs' ends.
SELECT
    tasks.id, tasks.run, tasks.cancel_asked,
    extract(epoch FROM clock_timestamp() - tasks.published_at)::float8 AS seconds,
    answers.status, answers.output, answers.method, answers.metadata, answers.at, runs.error
FROM tasks LEFT JOIN answers ON answers.run = tasks.run LEFT JOIN runs ON runs.id = tasks.run
WHERE tasks.status = 'running' AND tasks.published_at IS NOT NULL
