-- A million memories ($1) in tables of which the constraints and indexes are gone: most of them in the project `large`,
-- a tenth in twenty small ones. The n-th most frequent word is in 1/n as many as the first.
INSERT INTO memories
SELECT 'm' || n, project, '', now() - n * interval '1 second', 'fact', said, 'model', 'run:bench', words_of(project, said)
FROM generate_series(1, $1::int) AS n,
    LATERAL (SELECT CASE WHEN n % 10 = 0 THEN 'small' || n / 10 % 20 ELSE 'large' END AS project) AS place,
    LATERAL (
        SELECT string_agg('w' || floor(exp(random() * ln(200000)))::int, ' ') AS said FROM generate_series(1, 10)
        WHERE n > 0
    ) AS text
