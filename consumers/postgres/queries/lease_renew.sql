-- leases: resource $1 for $3 seconds from now, if its holder is still the one with fence $2.
UPDATE leases SET ends = clock_timestamp() + $3::float8 * interval '1 second'
WHERE resource = $1 AND fence = $2 AND ends > clock_timestamp()
RETURNING 1
