-- runs: how many rows, and a number that is the same only for the same rows, in whatever order they lie.
SELECT count(*) AS rows, md5(concat_ws(
    ' ', count(*), sum(hashtextextended(a_row::text, 0)::numeric), sum(hashtextextended(a_row::text, 1)::numeric)
)) AS digest
FROM runs AS a_row
