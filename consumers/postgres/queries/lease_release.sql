-- leases: resource $1 is free, if its holder is still the one with fence $2.
UPDATE leases SET ends = clock_timestamp() WHERE resource = $1 AND fence = $2 AND ends > clock_timestamp()
