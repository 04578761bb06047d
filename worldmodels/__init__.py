"""Train an agent inside its own dream: vision (V), memory (M) and a tiny controller (C)."""

import os

# Threads of a product wait for each other by spinning; where another process has their core, not for as long as usual:
# 2.4 times as fast there, the same elsewhere (docs/performance.md). OpenMP reads it when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
