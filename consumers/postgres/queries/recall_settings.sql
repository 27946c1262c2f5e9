-- For this transaction: how many of the index's lists of vectors are looked through, and how many more at most where
-- most of what they have is of others; and that it is used.
SELECT set_config(name, value, true) FROM (VALUES
    ('ivfflat.probes', '20'),
    ('ivfflat.max_probes', '60'),
    ('ivfflat.iterative_scan', 'relaxed_order'),
    ('enable_sort', 'off')
) AS settings (name, value)
