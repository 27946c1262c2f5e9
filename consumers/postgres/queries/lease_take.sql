-- leases: resource $1 for holder $2 and $3 seconds, if nobody has it. Its fence, null if somebody has it; and for how many
-- seconds more.
WITH taken AS (
    INSERT INTO leases (resource, holder, fence, ends)
    VALUES ($1, $2, 1, clock_timestamp() + $3::float8 * interval '1 second')
    ON CONFLICT (resource) DO UPDATE
    SET (holder, fence, ends) = (excluded.holder, leases.fence + 1, clock_timestamp() + $3::float8 * interval '1 second')
    WHERE leases.ends <= clock_timestamp()
    RETURNING fence
)
SELECT
    (SELECT fence FROM taken) AS fence,
    (SELECT extract(epoch FROM ends - clock_timestamp())::float8 FROM leases WHERE resource = $1) AS seconds
