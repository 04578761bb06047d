import os
from pathlib import Path

import numpy as np
import pytest

from worldmodels.core import checkpoint
from worldmodels.evolution.cma_es import CMAES


def sphere(x: np.ndarray) -> np.ndarray:
    return -((x - 1) ** 2).sum(1)


def ellipsoid(x: np.ndarray) -> np.ndarray:
    return -((x - 0.5) ** 2 * 10 ** np.linspace(0, 3, x.shape[1])).sum(1)


def rosenbrock(x: np.ndarray) -> np.ndarray:
    return -(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def run(search: CMAES, function, generations: int) -> CMAES:
    for _ in range(generations):
        search.tell(function(search.ask()))
    return search


@pytest.mark.parametrize(
    ("function", "best", "generations"), [(sphere, 1.0, 150), (ellipsoid, 0.5, 300), (rosenbrock, 1.0, 600)]
)
def test_it_climbs_known_functions_to_the_top(function, best: float, generations: int) -> None:
    search = run(CMAES(8, 12, 0.3, seed=0), function, generations)
    assert np.allclose(search.mean, best, atol=1e-3)


def test_it_finds_the_top_under_noise() -> None:
    rng = np.random.default_rng(0)
    search = run(CMAES(8, 32, 0.3, seed=0), lambda x: sphere(x) + rng.normal(0, 0.1, len(x)), 120)
    assert np.abs(search.mean - 1).max() < 0.3


def test_flat_fitness_does_not_end_the_search() -> None:
    search = run(CMAES(8, 12, 0.3, seed=0), lambda x: np.zeros(len(x)), 30)
    assert np.abs(run(search, sphere, 250).mean - 1).max() < 0.05


@pytest.mark.parametrize("function", [ellipsoid, lambda x: np.ones(len(x))])
@pytest.mark.parametrize(("size", "pop_size"), [(6, 8), (40, 4), (120, 16), (3001, 8)])
def test_resume_is_exact_to_the_bit(tmp_path: Path, size: int, pop_size: int, function) -> None:
    straight = run(CMAES(size, pop_size, 0.1, seed=3), function, 12)
    half = run(CMAES(size, pop_size, 0.1, seed=3), function, 5)
    checkpoint.save(tmp_path / "search", "test", half.state())
    resumed = CMAES(size, pop_size, 0.1, seed=3)
    resumed.load(checkpoint.load(tmp_path / "search", "test"))
    run(resumed, function, 7)
    assert np.array_equal(resumed.mean, straight.mean) and resumed.sigma == straight.sigma
    assert np.array_equal(resumed.ask(), straight.ask())


def test_seeds_zero_and_one_differ_and_neither_is_the_clock() -> None:
    asked = [CMAES(5, 8, 0.1, seed).ask() for seed in (0, 0, 1)]
    assert np.array_equal(asked[0], asked[1]) and not np.array_equal(asked[0], asked[2])


def test_it_leaves_numpys_global_generator_and_the_folder_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.random.seed(7)  # noqa: NPY002 (it is this generator that must not be touched)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    run(CMAES(5, 8, 0.1, seed=0), sphere, 5)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert os.listdir(tmp_path) == []
