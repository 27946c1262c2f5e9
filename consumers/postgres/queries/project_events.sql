-- events: each one once. $1 at, $2 id, $3 run, $4 type, $5 stream, $6 entry, $7 packing, $8 data, each a list.
INSERT INTO events (at, id, run, type, stream, entry, packing, data)
SELECT at, id, run, type, stream, entry, packing, data
FROM unnest(
    $1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[], $8::bytea[]
) AS said (at, id, run, type, stream, entry, packing, data)
ON CONFLICT DO NOTHING
