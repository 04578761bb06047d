"""Train an agent inside its own dream: vision (V), memory (M) and a tiny controller (C)."""
