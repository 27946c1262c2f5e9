"""What a session's turns leave behind beside what was said: things worth keeping, each under a tag."""
