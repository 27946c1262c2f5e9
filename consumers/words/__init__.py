"""What goals say: rules, keywords and the router, by words alone, without a model."""
