-- runs, steps, answers: table $2 as it is in schema $1; $3 is its column that names a run, $4 those of its key.
SELECT put_in_place($1, $2, $3, $4)
