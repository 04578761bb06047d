"""A world model led with eyes open or shut."""
