-- events, effects, runs, steps, answers, archive: without the weeks that ended before $1; how many partitions that were.
SELECT forget_until($1)
