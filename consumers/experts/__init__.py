"""Experts: one YAML file each, and who of them is there."""
