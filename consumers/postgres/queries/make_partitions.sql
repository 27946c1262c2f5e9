-- events, effects: partitions for all weeks from $1 to $2.
SELECT make_partitions('events', $1, $2), make_partitions('effects', $1, $2)
