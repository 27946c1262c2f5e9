"""What an agent can do in a project's folder: one file per tool, assembled in `registry`."""
