"""Strategies: shapes of plans, one file each."""
