"""ManiSkill 3's manipulation tasks seen from a camera: `maniskill:PushCube` is its PushCube-v1.

Simulated by PhysX and drawn by Vulkan, both on the CPU: Mesa's lavapipe draws without a GPU or a display. The authors
of HRSSM used ManiSkill 2 (HRSSM 5.1); as there, the hand is led by changes of its pose, rewards are dense, and no
episode ends before its time.
"""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodels.core.errors import UserError, nearest
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.envs.checked import Info
from worldmodels.envs.distract import Background

INSTALL = "pip install 'worldmodels[maniskill]'"
DRIVER = (
    "Mesa 24.3 or newer draws without a GPU: apt-get install libvulkan1 mesa-vulkan-drivers, on Debian 12 with "
    "-t bookworm-backports"
)
CAMERA = "base_camera"
SCENERY = {"table-workspace", "ground"}  # besides what is empty, and what can never move
CONTROL = "pd_ee_delta_pose"
REWARD = "normalized_dense"

os.environ.setdefault("LP_NUM_THREADS", "1")  # lavapipe's: each worker has one core
try:
    from mani_skill.envs.sapien_env import BaseEnv  # and with it all tasks, which register themselves
    from mani_skill.utils.assets.data import is_data_source_downloaded
    from mani_skill.utils.registration import REGISTERED_ENVS
except ImportError as error:
    raise UserError(f"maniskill environments need ManiSkill 3 ({error}); {INSTALL}") from error


class ManiSkill(gymnasium.Env):
    """Action (A,) in [-1, 1]: how position and rotation of the hand change, then how far it is open, for the arms that
    have a hand.

    Reward: ManiSkill's dense one, scaled to at most 1 per step. Nothing terminates; the time limit is the caller's.

    Args:
        name: of a task, without its version.
        background: drawn where neither robot nor object is: in place of table, floor and sky.
        truth: tell the true state, the task's own, in `info["truth"]`.

    Raises:
        UserError: if there is no such task, it has no dense reward, it lacks its assets, its robot cannot be led so, or
            nothing here can draw it.
    """

    def __init__(self, name: str, background: Background | None = None, truth: bool = False) -> None:
        self._env = _made(name, [*(["state_dict"] if truth else []), "rgb", *(["segmentation"] if background else [])])
        self._background = background
        self._tell = truth
        self.observation_space = spaces.Box(0, 255, OBS_SHAPE, np.uint8)
        self.action_space = spaces.Box(-1, 1, self._env.action_space.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        super().reset(seed=seed)
        seen, _ = self._env.reset(seed=int(self.np_random.integers(2**31)))
        self._scenery = self._ids_of_scenery()
        if self._background:
            self._background.begin(np.random.default_rng(int(self.np_random.integers(2**31))))
        return self._see(seen), self._info(seen)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        seen, reward, *_ = self._env.step(np.clip(action, -1, 1).astype(np.float32))
        return self._see(seen), float(reward), False, False, self._info(seen)

    def render(self) -> np.ndarray:
        """The last observation: there is no finer picture than what the agent sees."""
        return self._obs

    def close(self) -> None:
        self._env.close()

    def _ids_of_scenery(self) -> list[int]:
        """The labels of what is behind all that matters; 0 is of what is empty."""
        labelled = self._env.segmentation_id_map.items()
        return [0, *(label for label, thing in labelled if thing.name in SCENERY or _is_fixed(thing))]

    def _see(self, seen: dict[str, Any]) -> np.ndarray:
        camera = seen["sensor_data"][CAMERA]
        picture: np.ndarray = camera["rgb"][0].numpy().copy()
        if self._background:
            behind = np.isin(camera["segmentation"][0, ..., 0].numpy(), self._scenery)
            picture[behind] = self._background.picture(*OBS_SHAPE[:2])[behind]
        self._obs = picture
        return picture

    def _info(self, seen: dict[str, Any]) -> Info:
        if not self._tell:
            return {}
        told = seen["agent"] | seen["extra"]
        return {"truth": {name: np.ravel(value[0]).astype(np.float32) for name, value in told.items()}}


def _is_fixed(thing: Any) -> bool:
    return getattr(thing, "px_body_type", "") == "static"


def _made(name: str, shown: list[str]) -> BaseEnv:
    """A task of ManiSkill's, one of it, without a time limit.

    Raises:
        UserError: as ManiSkill says.
    """
    known = sorted({uid.rpartition("-v")[0] for uid in REGISTERED_ENVS})
    if name not in known:
        raise UserError(f"--env maniskill:{name} is unknown; {nearest(name, known)}")
    versions = [uid for uid in REGISTERED_ENVS if uid.rpartition("-v")[0] == name]
    uid = max(versions, key=lambda uid: int(uid.rpartition("-v")[2]))
    spec = REGISTERED_ENVS[uid]
    if REWARD not in spec.cls.SUPPORTED_REWARD_MODES:
        raise UserError(f"--env maniskill:{name} has no dense reward; take a task that has")
    if missing := [asset for asset in spec.asset_download_ids if not is_data_source_downloaded(asset)]:
        fetch = f"python -m mani_skill.utils.download_asset {missing[0]}"
        raise UserError(f"--env maniskill:{name} needs its assets; please run '{fetch}'")
    asked: dict[str, Any] = {
        "num_envs": 1,
        "obs_mode": "+".join(shown),
        "control_mode": CONTROL,
        "reward_mode": REWARD,
        "sim_backend": "physx_cpu",
        "render_backend": "cpu",
        "sensor_configs": {"height": OBS_SHAPE[0], "width": OBS_SHAPE[1]},
    }
    if "panda" in (spec.cls.SUPPORTED_ROBOTS or ()):  # not one with a camera in its hand, which costs
        asked["robot_uids"] = "panda"
    try:
        made = gymnasium.make(uid, disable_env_checker=True, **asked).unwrapped
    except RuntimeError as error:
        if "physical device" in str(error):
            raise UserError(f"maniskill environments need Vulkan on the CPU ({error}); {DRIVER}") from error
        raise
    except (AssertionError, KeyError, NotImplementedError) as error:  # what robots say that have no hand
        raise UserError(f"--env maniskill:{name} cannot be led by changes of a hand's pose ({error})") from error
    return made
