"""dm_control's manipulation, seen as its own pictures of it are, at the size of an observation."""

from typing import Any

import numpy as np
import pytest

from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.envs.distract import background
from worldmodels.envs.dmc import TASKS_OF_MANIPULATION, ControlSuite, manipulation, mujoco
from worldmodels.settings.envspec import EnvSpec


def film(env: Any, seed: int, steps: int = 2) -> np.ndarray:
    obs = [env.reset(seed=seed)[0]]
    obs += [env.step(np.full(9, 0.5, np.float32))[0] for _ in range(steps)]
    return np.stack(obs)


def test_all_of_its_tasks_can_be_asked_for_by_name() -> None:
    kinds = ("features", "vision")
    named = {name.removesuffix(f"_{kind}") for kind in kinds for name in manipulation.get_environments_by_tag(kind)}
    assert set(TASKS_OF_MANIPULATION) == named and len(named) == 13 and "reach_duplo" in named
    with pytest.raises(
        UserError, match=r"manipulation-reach_dupla is unknown; did you mean manipulation-reach_duplo\?"
    ):
        make_env("dmc:manipulation-reach_dupla")
    with pytest.raises(UserError, match=r"--distractor dcs is for .* of dm_control, and not for manipulation"):
        make_env(EnvSpec("dmc:manipulation-reach_site", 2, "dcs", parts=("colour",)))


def test_rewards_are_its_own_summed_over_repeats_and_it_looks_as_its_own_pictures_do() -> None:
    env = make_env(EnvSpec("dmc:manipulation-reach_duplo", 2), truth=True)
    obs, info = env.reset(seed=3)
    plain = manipulation.load("reach_duplo_vision", seed=0)
    plain.random_state.seed(int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).integers(2**31)))
    time_step = plain.reset()
    own = plain.physics.render(64, 64, camera_id="front_close")
    assert np.abs(own.astype(int) - obs).mean() < 6 and obs.std() > 10
    spec = plain.action_spec()
    for action in np.random.default_rng(0).uniform(-1, 1, (4, 9)):
        assert np.allclose(info["truth"]["jaco_arm/joints_vel"], np.ravel(time_step.observation["jaco_arm/joints_vel"]))
        assert info["truth"]["duplo2x4/position"].shape == (3,)  # which its own pictures come without
        native = spec.minimum + (action + 1) / 2 * (spec.maximum - spec.minimum)
        expected = sum((time_step := plain.step(native)).reward for _ in range(2))
        _, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        assert reward == pytest.approx(expected, abs=1e-6) and not terminated and not truncated
    env.close()


@pytest.mark.parametrize("task", ["reach_site", "stack_3_bricks_random_order"])
def test_the_same_seed_is_the_same_episode_whatever_was_played_before(task: str) -> None:
    """Though it is built anew for every episode; the bricks' hint shows another order each time."""
    env = make_env(EnvSpec(f"dmc:manipulation-{task}", 2, "stills"))
    first = film(env, 7)
    other = film(env, 8)
    assert np.array_equal(film(env, 7), first) and not np.array_equal(other, first)
    env.close()


@pytest.mark.parametrize("task", ["reach_site", "place_cradle"])
def test_a_background_is_put_exactly_where_nothing_stands(task: str) -> None:
    """Against MuJoCo's own segmentation; reach_site's target is translucent, and stays."""
    env = ControlSuite(f"manipulation-{task}", 2, background(EnvSpec("x", 2, "noise")))
    env.reset(seed=1)
    view = env._view
    _, empty = view.draw(env._data)
    view._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 1
    view._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
    coloured, _ = view.draw(env._data)
    drawn = coloured.any(-1)
    assert np.array_equal(empty, ~drawn) and 0.02 < drawn.mean() < 0.6
    if task == "reach_site":
        sites = env._model.site_rgba[env._model.site("target_site").id]
        assert sites[3] < 1
    env.close()
