"""How a model is asked: engines, the embedded model, prompts."""
