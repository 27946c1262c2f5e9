-- The same by the index of {vectors}, whose vectors have {width} dimensions: of those that look nearest by one bit of
-- each ($5 of them), the nearest.
SELECT memory, embedding <=> (SELECT $3::text::halfvec) AS distance FROM (
    SELECT memory, embedding FROM {vectors}
    WHERE project = $1 AND session = $2
    ORDER BY binary_quantize(embedding)::bit({width}) <~> (SELECT binary_quantize($3::text::halfvec({width})))
    LIMIT $5
) AS near
ORDER BY distance, memory
LIMIT $4
