"""Other agents: who of them a step is for, how busy they are, and asking them over HTTP."""
