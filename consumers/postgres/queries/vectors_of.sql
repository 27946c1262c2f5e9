-- The table of the vectors of an embedder ($1) with so many dimensions ($2), null where there can be none.
SELECT vectors_of($1, $2)
