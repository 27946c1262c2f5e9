"""How it starts: settings, projects, the embedded server, wiring."""
