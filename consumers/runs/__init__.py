"""A run, as aggregate knows it: its state, how events move it on, and how it ends."""
