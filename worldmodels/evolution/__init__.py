"""Params and seeds in, returns out; CMA-ES."""
