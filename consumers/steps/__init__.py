"""How steps are carried out by models."""
