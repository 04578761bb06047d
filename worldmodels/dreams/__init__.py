"""A world model led with eyes shut."""
