-- positions: how far projection $1 has come. $2 streams, $3 and $4 the parts of their entries' ids, each a list.
INSERT INTO positions (projection, stream, ms, seq)
SELECT $1, stream, ms, seq FROM unnest($2::text[], $3::numeric[], $4::numeric[]) AS come (stream, ms, seq)
ON CONFLICT (projection, stream) DO UPDATE SET (ms, seq) = (excluded.ms, excluded.seq)
WHERE (positions.ms, positions.seq) < (excluded.ms, excluded.seq)
