-- For this transaction: how far the index of vectors is searched, also where most of what it finds is of others, and
-- that it is used.
SELECT set_config(name, value, true) FROM (VALUES
    ('hnsw.ef_search', '100'),
    ('hnsw.iterative_scan', 'relaxed_order'),
    ('enable_sort', 'off')
) AS settings (name, value)
