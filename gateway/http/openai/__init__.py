"""The surface that OpenAI's clients know: models, and chats that are runs."""
