"""What is said: events, the envelope around them, questions to models, and errors. Imports nothing of ours."""
