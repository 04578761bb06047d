"""--dry-run: what a command would take.

Speeds are measured here, for seconds, and multiplied; nothing is written.
"""

from worldmodels.estimate.collection import collection
from worldmodels.estimate.evolution import evaluation, evolution
from worldmodels.estimate.training import memory, vision

__all__ = ["collection", "evaluation", "evolution", "memory", "vision"]
