"""One seed, many independent streams of randomness, each with a name."""

from zlib import crc32

import numpy as np
import torch

Name = str | int
SMALLEST = 2.0**-25  # stands in for the 0 that uniform draws can be, and normal quantiles cannot bear


def stream(seed: int, *names: Name) -> np.random.SeedSequence:
    """The random stream called `names` under `seed`; streams of different names are independent.

    `stream(0, "collect", 7)` is what episode 7 of a collection draws from, on whichever worker it runs.
    """
    key = [name if isinstance(name, int) else crc32(name.encode()) for name in names]
    return np.random.SeedSequence(seed, spawn_key=key)


def rng(seed: int, *names: Name) -> np.random.Generator:
    """A numpy generator on the stream called `names`."""
    return np.random.default_rng(stream(seed, *names))


def generator(seed: int, *names: Name) -> torch.Generator:
    """A torch generator (CPU) on the stream called `names`."""
    return torch.Generator().manual_seed(integer(seed, *names))


def integer(seed: int, *names: Name) -> int:
    """A number in [0, 2**31), for environments that take one as their seed."""
    return int(stream(seed, *names).generate_state(1)[0] >> 1)


def uniform(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Uniform noise, float32 in the open interval (0, 1), for a training step."""
    return torch.rand(*shape, generator=generator).clamp_min(SMALLEST)


class Noise:
    """Uniform noise for episodes that run side by side, each from its own seed.

    Because every episode draws from its own stream, what it draws depends neither on the episodes beside it nor on
    their order; candidates that dream the same seed meet the same luck (common random numbers).

    Args:
        seeds: of the episodes.
        size: numbers per step.
        device: where noise is wanted. Many steps' are sent at once, for a GPU's host waits for all that it sends.
    """

    BLOCK = 64  # steps drawn at a time

    def __init__(self, seeds: list[int], size: int, device: torch.device | None = None) -> None:
        self._rngs = [rng(seed, "noise") for seed in seeds]
        self._size = size
        self._block = torch.empty(len(seeds), 0, size, device=device)
        self._next = 0

    def draw(self) -> torch.Tensor:
        """The next step's noise, float32 (E, size) in the open interval (0, 1)."""
        if self._next == self._block.shape[1]:
            self._block = self._drawn(self._rngs, self.BLOCK)
            self._next = 0
        self._next += 1
        return self._block[:, self._next - 1].clone()

    def restart(self, row: int, seed: int, skip: int = 0) -> None:
        """Begins a new episode in `row`: from the next draw on it has the noise of `seed`, but for its first `skip`."""
        self._rngs[row] = rng(seed, "noise")
        left = self._block.shape[1] - self._next
        self._block[row, self._next :] = self._drawn([self._rngs[row]], skip + left)[0, skip:]

    def _drawn(self, rngs: list[np.random.Generator], steps: int) -> torch.Tensor:
        drawn = np.stack([r.random((steps, self._size), np.float32) for r in rngs])
        return torch.from_numpy(np.maximum(drawn, SMALLEST)).to(self._block.device)
