-- effects: each one once. $1 at, $2 run, $3 effect, $4 kind, $5 model, $6 seconds, $7 packing, $8 data, each a list.
INSERT INTO effects (at, run, effect, kind, model, seconds, packing, data)
SELECT at, run, effect, kind, model, seconds, packing, data
FROM unnest(
    $1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::real[], $7::smallint[], $8::bytea[]
) AS recorded (at, run, effect, kind, model, seconds, packing, data)
ON CONFLICT DO NOTHING
