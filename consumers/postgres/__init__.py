"""What stays: read models, archive and records on PostgreSQL."""
