"""The HTTP door: it publishes events and reads results, and can be restarted at any time."""
