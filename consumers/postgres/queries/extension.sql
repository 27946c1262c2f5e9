-- Whether an extension ($1) is installed in the database, and whether the server has it at all.
SELECT
    EXISTS (SELECT FROM pg_extension WHERE extname = $1) AS installed,
    EXISTS (SELECT FROM pg_available_extensions WHERE name = $1) AS available
