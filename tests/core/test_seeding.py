import numpy as np

from worldmodels.core import seeding


def test_streams_of_other_names_differ_and_of_the_same_name_agree() -> None:
    names = [("collect", 0), ("collect", 1), ("train", 0), ("train", 0, 0), ()]
    drawn = [seeding.rng(0, *name).random(4) for name in names]
    assert len({tuple(d) for d in drawn}) == len(names)
    assert (seeding.rng(0, "collect", 1).random(4) == drawn[1]).all()
    assert (seeding.rng(1, "collect", 1).random(4) != drawn[1]).all()


def test_integers_fit_what_environments_take() -> None:
    values = [seeding.integer(0, "x", i) for i in range(1000)]
    assert min(values) >= 0 and max(values) < 2**31 and len(set(values)) > 990


def test_noise_of_an_episode_does_not_depend_on_its_neighbours() -> None:
    together, alone = seeding.Noise([5, 6, 7], 3), seeding.Noise([6], 3)
    for _ in range(seeding.Noise.BLOCK + 10):
        assert (together.draw()[1] == alone.draw()[0]).all()


def test_a_restarted_row_has_the_noise_of_its_new_seed_at_any_moment() -> None:
    for after in (1, 10, seeding.Noise.BLOCK, seeding.Noise.BLOCK + 3):
        noise, fresh = seeding.Noise([1, 2], 5), seeding.Noise([9], 5)
        for _ in range(after):
            noise.draw()
        noise.restart(1, 9)
        for _ in range(seeding.Noise.BLOCK * 2):
            assert (noise.draw()[1] == fresh.draw()[0]).all()


def test_noise_is_uniform_and_never_zero_or_one() -> None:
    noise = seeding.Noise(list(range(200)), 50)
    values = np.concatenate([noise.draw().numpy().ravel() for _ in range(20)])
    assert values.min() > 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 0.005 and abs(values.var() - 1 / 12) < 0.002
