"""Who acts, and real episodes of it."""
