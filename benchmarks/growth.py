"""Whether a larger run costs more than in proportion: rates at a large size beside rates at a small one."""

from collections.abc import Iterator

from benchmarks.dream import doom_sized, dreams
from benchmarks.measure import Row


def rows() -> Iterator[Row]:
    small, large = doom_sized(32), doom_sized(64)
    populations = dreams(large, 1024, 4, 20), dreams(large, 64, 4, 20)
    yield Row("growth: population 64 to 1,024", "steps/s", *populations, times_reference=1.0)
    horizons = dreams(large, 64, 4, 320), dreams(large, 64, 4, 20)
    yield Row("growth: horizon 20 to 320", "steps/s", *horizons, times_reference=0.9)
    codes = dreams(large, 64, 4, 40), dreams(small, 64, 4, 40)
    yield Row("growth: code 32 to 64", "steps/s", *codes, times_reference=0.5)
