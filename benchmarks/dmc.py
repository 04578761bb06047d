"""Steps of dm_control in front of a background that moves, beside dm_control's own picture and segmentation.

dm_control plays in a process of its own: it keeps account of OpenGL contexts, and would not notice that we took turns.
"""

import functools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import gymnasium
import numpy as np

from benchmarks.measure import Row
from worldmodels.envs import make_env
from worldmodels.envs.distract import background
from worldmodels.envs.dmc import mujoco, suite
from worldmodels.settings.envspec import EnvSpec

TASKS = ("walker-walk", "cheetah-run", "reacher-easy", "finger-spin", "cartpole-swingup", "ball_in_cup-catch")
REPEAT = 2
STEPS = 100


def rows() -> Iterator[Row]:
    with ProcessPoolExecutor(1, get_context("spawn")) as aside:
        for task in TASKS:
            spec = EnvSpec(f"dmc:{task}", REPEAT, "stills")
            ours = make_env(spec)
            sides = functools.partial(play, ours), lambda spec=spec: aside.submit(play_plain, spec).result()
            yield Row(f"dm_control, {task}", "steps/s", *sides, times_reference=4.0)
            ours.close()


def play(env: gymnasium.Env) -> float:
    env.reset(seed=0)
    for action in actions(env.action_space.shape):
        env.step(action)
    return STEPS


def play_plain(spec: EnvSpec) -> float:
    """The obvious code: drawn in full, drawn again to see what stands where, put together."""
    env, behind = suite_env(spec), background(spec)
    env.reset()
    behind.begin(np.random.default_rng(0))
    floors = np.flatnonzero(env.physics.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
    for action in actions(env.action_spec().shape):
        for _ in range(REPEAT):
            env.step(action)
        picture = env.physics.render(64, 64, camera_id=0)
        thing, kind = np.moveaxis(env.physics.render(64, 64, camera_id=0, segmentation=True), -1, 0)
        empty = (thing == -1) | ((kind == mujoco.mjtObj.mjOBJ_GEOM) & np.isin(thing, floors))
        np.where(empty[..., None], behind.picture(64, 64), picture)
    return STEPS


def actions(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (STEPS, *shape)).astype(np.float32)


@functools.cache
def suite_env(spec: EnvSpec) -> Any:
    return suite.load(*spec.name.removeprefix("dmc:").split("-"))
