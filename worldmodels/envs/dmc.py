"""dm_control seen from a camera: `dmc:walker-walk` is task walk of domain walker of its suite, and
`dmc:manipulation-reach_duplo` a task of its manipulation.

Rendered by MuJoCo without a display, at the size of an observation and without what costs much and shows
little there (multisampling, fine shadows): HRSSM section 9.
"""

import atexit
import ctypes.util
import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodels.core.errors import UserError, nearest
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.envs.checked import Info
from worldmodels.envs.dcs import Distraction
from worldmodels.envs.distract import Background

RENDERERS = {"egl": "EGL", "osmesa": "OSMesa"}  # those that need no display, and their libraries
INSTALL = "please run 'apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri'"
SHADOWS = 256  # texels; the suite's 2048 are most of a frame's cost and look alike at this size
SLICES = 20  # of spheres and capsules; the suite's 28 take up to twice as long and look alike
STACKS = 12  # likewise; the suite has 16
CAMERAS = {"quadruped": 2}  # elsewhere 0, and where the background moves (HRSSM section 5.1)
MANIPULATION = "manipulation"
CAMERA_OF_MANIPULATION = "front_close"  # which dm_control's own pictures of it are taken from
UNBOUNDED = 1e9  # an actuator that goes further has no range, and gets [-1, 1]
HIDDEN = 5  # a geom group that is not drawn


def choose_renderer() -> None:
    """Sets MUJOCO_GL, which must be done before mujoco is imported.

    Raises:
        UserError: if nothing here can draw without a display.
    """
    if "MUJOCO_GL" not in os.environ:
        found = _renderers()
        if not found:
            raise UserError(f"dmc environments need a headless OpenGL; {INSTALL}")
        os.environ["MUJOCO_GL"] = found[0]


def cannot_draw(why: object) -> UserError:
    """What to say if MuJoCo cannot draw by the renderer that MUJOCO_GL names."""
    chosen = os.environ["MUJOCO_GL"]
    others = [name for name in _renderers() if name != chosen]
    advice = INSTALL
    if others:
        advice = f"leave MUJOCO_GL unset, or set it to {others[0]}, which is installed"
    elif os.environ.get("PYOPENGL_PLATFORM", chosen) != chosen:
        advice = "leave PYOPENGL_PLATFORM unset"
    reason = str(why).splitlines()[0]
    return UserError(f"dmc environments cannot draw by MUJOCO_GL={chosen} ({reason}); {advice}")


def _renderers() -> list[str]:
    return [name for name, library in RENDERERS.items() if ctypes.util.find_library(library)]


choose_renderer()
try:
    import mujoco
    from dm_control import manipulation, suite
except (ImportError, AttributeError, RuntimeError) as error:  # what PyOpenGL raises without a driver
    raise cannot_draw(error) from error


TASKS_OF_MANIPULATION = sorted(
    name.removesuffix("_features") for name in manipulation.get_environments_by_tag("features")
)


class ControlSuite(gymnasium.Env):
    """Action (A,) in [-1, 1], scaled to each actuator's range.

    Reward: 0 to 1 per step of control, summed over repeats.
    The time limit (1000 steps of control in most tasks, 250 in manipulation) truncates; few tasks terminate.

    Args:
        name: <domain>-<task>.
        action_repeat: steps of control per action.
        background: drawn where neither body nor object is; the floor and the sky are then left out.
        distraction: what else changes of what is seen, by the Distracting Control Suite.
        truth: tell the true physical state, the task's own observations, in `info["truth"]`.

    Raises:
        UserError: if there is no such task, or it cannot be distracted from so.
    """

    def __init__(
        self,
        name: str,
        action_repeat: int = 2,
        background: Background | None = None,
        distraction: Distraction | None = None,
        truth: bool = False,
    ) -> None:
        self._env = _loaded(name)
        self._repeat = action_repeat
        self._background = background
        self._distraction = distraction
        self._tell = truth
        self._domain = name.partition("-")[0]
        self._begin_to_view()
        spec = self._env.action_spec()
        bounded = np.abs([spec.minimum, spec.maximum]).max(0) < UNBOUNDED
        self._low = np.where(bounded, spec.minimum, -1)
        self._high = np.where(bounded, spec.maximum, 1)
        self.observation_space = spaces.Box(0, 255, OBS_SHAPE, np.uint8)
        self.action_space = spaces.Box(-1, 1, spec.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        super().reset(seed=seed)
        _random_state(self._env).seed(int(self.np_random.integers(2**31)))
        if self._background:
            self._background.begin(np.random.default_rng(int(self.np_random.integers(2**31))))
        time_step = self._env.reset()
        if self._env.physics.model.ptr is not self._model:  # manipulation is built anew for every episode
            self._view.close()
            self._begin_to_view()
        if self._distraction:
            self._distraction.begin(int(self.np_random.integers(2**31)), self._data)
        self._view.terrain()
        return self._see(), self._info(time_step)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        unit = (np.clip(action, -1, 1).astype(np.float64) + 1) / 2
        native = self._low + unit * (self._high - self._low)
        reward = 0.0
        for _ in range(self._repeat):
            time_step = self._env.step(native)
            reward += time_step.reward or 0.0
            if self._distraction:
                self._distraction.step(self._data)
            if time_step.last():
                break
        terminated = time_step.last() and time_step.discount == 0
        truncated = time_step.last() and not terminated
        return self._see(), reward, bool(terminated), bool(truncated), self._info(time_step)

    def render(self) -> np.ndarray:
        """The last observation: there is no finer picture than what the agent sees."""
        return self._obs

    def close(self) -> None:
        self._view.close()
        self._env.close()

    def _begin_to_view(self) -> None:
        """Looks at the model as it is built now."""
        self._model = self._env.physics.model.ptr
        self._data = self._env.physics.data.ptr
        camera = self._camera()
        if self._distraction:
            self._distraction.attach(self._domain, self._model, camera)
        self._view = _View(self._model, camera, hide_scenery=self._background is not None)

    def _camera(self) -> int:
        if self._domain == MANIPULATION:
            return int(self._model.camera(CAMERA_OF_MANIPULATION).id)
        return 0 if self._background else CAMERAS.get(self._domain, 0)

    def _info(self, time_step: Any) -> Info:
        if not self._tell:
            return {}
        truth = {name: np.ravel(value).astype(np.float32) for name, value in time_step.observation.items()}
        return {"truth": truth}

    def _see(self) -> np.ndarray:
        if self._distraction and self._distraction.texture is not None:
            self._view.repaint(self._distraction.texture)
        picture, empty = self._view.draw(self._data)
        if self._background:
            picture[empty] = self._background.picture(*OBS_SHAPE[:2])[empty]
        self._obs = picture
        return picture


def _loaded(name: str) -> Any:
    """A task of dm_control's. Raises UserError if there is none of that name."""
    domain, _, task = name.partition("-")
    known = [f"{d}-{t}" for d, t in suite.ALL_TASKS] + [f"{MANIPULATION}-{task}" for task in TASKS_OF_MANIPULATION]
    if name not in known:
        raise UserError(f"--env dmc:{name} is unknown; {nearest(name, known)}")
    if domain == MANIPULATION:  # not "_vision": that draws pictures of its own, and does not tell the true state
        return manipulation.load(f"{task}_features", seed=0)
    return suite.load(domain, task, task_kwargs={"random": 0})


def _random_state(env: Any) -> np.random.RandomState:
    """What a task of dm_control's draws from."""
    state: np.random.RandomState = env.random_state if hasattr(env, "random_state") else env.task.random
    return state


def _opened() -> Any:
    """An OpenGL context."""
    try:
        return mujoco.GLContext(*OBS_SHAPE[:2])
    except Exception as error:  # each renderer has errors of its own
        raise cannot_draw(error) from error


def _set_quality(visual: Any) -> None:
    """A picture as large as an observation, without what costs much and shows little there."""
    visual.quality.offsamples = 0
    visual.quality.shadowsize = SHADOWS
    visual.quality.numslices = SLICES
    visual.quality.numstacks = STACKS
    visual.global_.offwidth = OBS_SHAPE[0]
    visual.global_.offheight = OBS_SHAPE[1]


class _View:
    """Draws one model from one camera, 64x64."""

    _context: Any = None  # one OpenGL context serves all views of a process

    def __init__(self, model: Any, camera: int, hide_scenery: bool) -> None:
        if _View._context is None:
            _View._context = _opened()
            atexit.register(_View._context.free)  # before the display is closed, which mujoco does at exit
        _View._context.make_current()
        _set_quality(model.vis)
        self._model = model
        self._option = mujoco.MjvOption()
        self._hide = hide_scenery
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = 0  # sensors' rays are no part of it
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        if hide_scenery:
            self._hide_scenery()
        try:
            self._gl = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:  # a context that opened, and is none (glfw without a display)
            raise cannot_draw(error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._gl)
        self._rect = mujoco.MjrRect(0, 0, *OBS_SHAPE[:2])
        self._rgb = np.empty(OBS_SHAPE, np.uint8)
        self._depth = np.empty(OBS_SHAPE[:2], np.float32)

    def _hide_scenery(self) -> None:
        """Neither floor nor sky is drawn from now on."""
        floors = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
        self._model.geom_group[np.isin(self._model.geom_type, floors)] = HIDDEN
        self._option.geomgroup[HIDDEN] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = 0

    def draw(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """The picture uint8 (64, 64, 3), and bool (64, 64) where nothing is drawn (with scenery hidden).

        What is translucent has no depth, but it is not black.
        """
        _View._context.make_current()  # someone else in this process may draw, too
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, self._scene)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._gl)
        mujoco.mjr_render(self._rect, self._scene, self._gl)
        mujoco.mjr_readPixels(self._rgb, self._depth if self._hide else None, self._rect, self._gl)
        picture = self._rgb[::-1].copy()  # rows come from the bottom up
        return picture, (self._depth[::-1] == 1) & ~picture.any(-1)

    def terrain(self) -> None:
        """Shows height fields as they are now; some tasks lay theirs anew for every episode."""
        _View._context.make_current()
        for field in range(self._model.nhfield):
            mujoco.mjr_uploadHField(self._model, self._gl, field)

    def repaint(self, texture: int) -> None:
        """Shows a texture as it is now in the model."""
        _View._context.make_current()
        mujoco.mjr_uploadTexture(self._model, self._gl, texture)

    def close(self) -> None:
        self._gl.free()
