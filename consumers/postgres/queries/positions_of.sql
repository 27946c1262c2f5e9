-- positions: how far projection $1 has come on streams $2.
SELECT stream, ms::text, seq::text FROM positions WHERE projection = $1 AND stream = ANY($2)
