"""How events move. Read in this order: stage, keys, outcome, hop, journal, duties, worker."""
