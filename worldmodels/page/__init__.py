"""The page on which a person plays inside a dream."""
