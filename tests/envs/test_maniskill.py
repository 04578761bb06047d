"""ManiSkill's tasks, drawn without a GPU. Skipped where they are not installed, or where nothing can draw them."""

from typing import Any

import numpy as np
import pytest

from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.settings.envspec import EnvSpec

pytest.importorskip("mani_skill", reason="ManiSkill is not installed: pip install -e '.[maniskill]'")


@pytest.fixture(scope="module", autouse=True)
def drawn() -> None:
    try:
        make_env("maniskill:PushCube").close()
    except UserError as error:
        if "need Vulkan" not in str(error):
            raise
        pytest.skip(str(error))


def film(env: Any, seed: int, steps: int = 3) -> np.ndarray:
    obs = [env.reset(seed=seed)[0]]
    obs += [env.step(np.full(7, 0.5, np.float32))[0] for _ in range(steps)]
    return np.stack(obs)


@pytest.mark.parametrize("task", ["PushCube", "PickCube", "StackCube", "LiftPegUpright"])
def test_it_is_an_environment_like_all_of_ours(task: str) -> None:
    env = make_env(f"maniskill:{task}", truth=True)
    obs, info = env.reset(seed=1)
    assert obs.shape == (64, 64, 3) and obs.dtype == np.uint8 and obs.std() > 20
    assert env.action_space.shape == (7,) and {"qpos", "tcp_pose"} < info["truth"].keys()
    low = info["truth"]["tcp_pose"][2]
    for _ in range(8):
        again, reward, terminated, truncated, info = env.step(np.array([0, 0, 1, 0, 0, 0, 1], np.float32))
        assert 0 <= reward <= 1 and not terminated and not truncated
    assert info["truth"]["tcp_pose"][2] > low + 0.05 and np.any(again != obs)  # the hand goes up
    env.close()


def test_an_episode_follows_from_its_seed_alone() -> None:
    env = make_env("maniskill:PushCube")
    first = film(env, 3)
    other = film(env, 4, steps=10)
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(film(env, 3), first) and np.array_equal(film(make_env("maniskill:PushCube"), 3), first)


def test_a_background_takes_the_place_of_all_that_is_neither_robot_nor_object() -> None:
    plain = make_env("maniskill:PushCube").reset(seed=3)[0]
    spec = EnvSpec("maniskill:PushCube", 1, "noise")
    before = [make_env(spec).reset(seed=3)[0], make_env(spec.tested()).reset(seed=3)[0]]
    kept = (before[0] == plain).all(-1)
    assert 0.05 < kept.mean() < 0.5  # the robot, the cube and where it is to go
    rows, columns = np.nonzero(kept)
    assert np.ptp(rows) > 20 and np.ptp(columns) < 40
    assert np.array_equal(before[0][kept], before[1][kept])


def test_what_cannot_be_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match=r"--env maniskill:PushCub is unknown; did you mean .*PushCube"):
        make_env("maniskill:PushCub")
    with pytest.raises(UserError, match=r"--action-repeat 2 is for .*; --env maniskill:PushCube takes 1"):
        make_env(EnvSpec("maniskill:PushCube", 2))
    with pytest.raises(UserError, match="--env maniskill:TurnFaucet has no dense reward; take a task that has"):
        make_env("maniskill:TurnFaucet")
    with pytest.raises(UserError, match=r"PickSingleYCB needs its assets; please run 'python -m mani_skill\..* ycb'"):
        make_env("maniskill:PickSingleYCB")
    with pytest.raises(UserError, match=r"cannot be led by changes of a hand's pose|has no dense reward"):
        make_env("maniskill:MS-CartpoleBalance")
