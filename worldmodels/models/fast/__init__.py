"""Hand-written forms of what torch does slower."""
