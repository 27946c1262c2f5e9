"""The terminal chat: goals go in, a run's events come out, straight on the streams or over HTTP."""
