"""Work for the background: a table of tasks, looked after in cycles and carried out by the pipeline."""
