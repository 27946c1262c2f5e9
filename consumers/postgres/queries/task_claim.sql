-- tasks: the first $3 whose turn it is are worker $1's, as long as no more than $2 are running; how many.
SELECT claim_tasks($1, $2, $3)
