"""The loop of stages 2 and 3, and the run folder."""
