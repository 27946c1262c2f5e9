-- Make the index of the vectors of the embedder of this name ($1) and width ($2), if it is time for that; whether it was.
SELECT index_vectors(number) FROM embedders WHERE name = $1 AND dimensions = $2
