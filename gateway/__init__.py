"""The doors: everything people and programs reach Victoria by. A door publishes events and reads results, no more."""
