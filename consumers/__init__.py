"""What happens: one file per stage, the tools they use, and the rules that need no model."""
