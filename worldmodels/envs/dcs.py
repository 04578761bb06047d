"""The Distracting Control Suite (Stone et al., 2021, arXiv 2101.02722): camera, colours and sky of dm_control change.

Ranges and speeds are the published code's (google-research, distracting_control), in proportion to one scale. A step is
one of control, of which an action may take several. Each part draws from a stream of its own, so that one is the same
whether others distract or not.
"""

from typing import Any, Protocol

import numpy as np

from worldmodels.core import seeding
from worldmodels.core.errors import UserError
from worldmodels.envs.clips import read_clips
from worldmodels.settings.envspec import EnvSpec

DOMAINS = ("ball_in_cup", "cartpole", "cheetah", "finger", "reacher", "walker")
ABOVE = "reacher"  # seen from above; the others from the side, where the camera stays in the upper quadrant
OPAQUE = {"reacher": 0.0, "walker": 1.0, "cheetah": 1.0}  # the floor, with a video for a sky
OPAQUE_ELSEWHERE = 0.3
FIXED = 0  # MuJoCo's mode of a camera that does not move with a body
NEAREST = np.array([0.0, -np.pi, 0.0])  # of the upper quadrant: radius, azimuth, angle from the zenith
FARTHEST = np.array([np.inf, 0.0, np.pi / 2])


class Part(Protocol):
    """One of the things that distract."""

    def begin(self, rng: np.random.Generator, data: Any) -> None:
        """A new episode; `data` is as MuJoCo has just left it."""
        ...

    def step(self, data: Any) -> None:
        """A step of control has been made; `data` is as MuJoCo has just left it."""
        ...


class Distraction:
    """All that distracts in one environment.

    Args:
        spec: which parts, how much, and where the clips lie.

    Raises:
        UserError: if there are too few clips, or one cannot be read.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec
        self._clips = read_clips(spec)
        self._parts: dict[str, Part] = {}
        self.texture: int | None = None
        """What of MuJoCo's textures it paints anew; None if it has no videos."""

    def attach(self, domain: str, model: Any, camera: int) -> None:
        """Gives it MuJoCo's model, and which of its cameras is looked through.

        Raises:
            UserError: if the published suite does not know the domain.
        """
        if domain not in DOMAINS:
            raise UserError(f"--distractor dcs is for {', '.join(DOMAINS)} of dm_control, and not for {domain}")
        scale, moves = self._spec.strength.scale, not self._spec.static
        if "camera" in self._spec.parts:
            self._parts["camera"] = Camera(model, camera, scale, moves, domain != ABOVE)
        if "colour" in self._spec.parts:
            self._parts["colour"] = Colours(model, scale, moves)
        if "background" in self._spec.parts:
            self._parts["background"] = Sky(model, self._clips, moves)
            self.texture = model.texture("skybox").id
            model.mat_rgba[model.material("grid").id, 3] = OPAQUE.get(domain, OPAQUE_ELSEWHERE)

    def begin(self, seed: int, data: Any) -> None:
        """A new episode, all of whose chance comes from `seed`."""
        for name, part in self._parts.items():
            part.begin(seeding.rng(seed, "dcs", name), data)

    def step(self, data: Any) -> None:
        """A step of control has been made."""
        for part in self._parts.values():
            part.step(data)


class Colours:
    """Every material's colour within `scale` of its own, in [0, 1]."""

    def __init__(self, model: Any, scale: float, moves: bool) -> None:
        self._rgb = model.mat_rgba[:, :3]  # a view: what is written there is drawn
        self._low = np.clip(self._rgb.astype(np.float64) - scale, 0, 1)
        self._high = np.clip(self._rgb.astype(np.float64) + scale, 0, 1)
        self._deviation = 0.03 * scale if moves else 0.0

    def begin(self, rng: np.random.Generator, data: Any) -> None:
        self._rng = rng
        self._now = rng.uniform(self._low, self._high)
        self._rgb[:] = self._now

    def step(self, data: Any) -> None:
        moved = self._now + self._rng.normal(0, self._deviation, self._now.shape)
        self._now = np.clip(moved, self._low, self._high)
        self._rgb[:] = self._now


class Camera:
    """A camera that wanders about, and looks at where the task's own does.

    Its place is told from the centre of mass where the task's camera moves along, else from the world's origin: as
    radius, azimuth, and angle from the zenith.

    Args:
        model: MuJoCo's.
        camera: which.
        scale: of its ranges and speeds.
        moves: it wanders after an episode's beginning.
        upright: it stays in the upper quadrant in front, and is rolled by its own roll alone.
    """

    def __init__(self, model: Any, camera: int, scale: float, moves: bool, upright: bool) -> None:
        self._camera = camera
        self._is_fixed = model.cam_mode[camera] == FIXED
        self._upright = upright
        self._zoom = 0.5 * scale, 1.5 * scale  # nearer by this part, and farther
        self._reach = scale * np.pi / 2
        wanders = scale if moves else 0.0
        self._top_speed = 0.4 * wanders
        self._shaken = 0.1 * wanders
        self._top_roll_speed = np.pi / 50 * wanders
        self._roll_shaken = np.pi / 300 * wanders

    def begin(self, rng: np.random.Generator, data: Any) -> None:
        self._rng = rng
        self._point = self._looked_at(data)
        own = spherical(data.cam_xpos[self._camera] - self._centre(data))
        self._size = own[0] / 4  # speeds were made for cameras four metres away
        nearer, farther = self._zoom
        self._low = own - np.array([own[0] * nearer, self._reach, self._reach])
        self._high = own + np.array([own[0] * farther, self._reach, self._reach])
        if self._upright:
            self._low, self._high = np.maximum(self._low, NEAREST), np.minimum(self._high, FARTHEST)
        self._place = rng.uniform(self._low, self._high)
        self._roll = rng.uniform(-self._reach, self._reach)
        direction = rng.normal(size=3)
        self._velocity = direction / np.linalg.norm(direction) * rng.uniform(0, self._top_speed)
        self._roll_velocity = rng.uniform(-self._top_roll_speed, self._top_roll_speed)
        self.step(data)  # the published code begins with a step, too

    def step(self, data: Any) -> None:
        self._shake()
        before = cartesian(self._place)
        # beyond the zenith the azimuth turns by half a circle, and is held by its range: so in the published code
        self._place = np.clip(spherical(before + self._velocity), self._low, self._high)
        self._velocity = cartesian(self._place) - before
        roll = np.clip(self._roll + self._roll_velocity, -self._reach, self._reach)
        self._roll_velocity, self._roll = roll - self._roll, roll
        self._look(data)

    def _shake(self) -> None:
        """The velocities change a little, and stay below their limits."""
        self._velocity = self._velocity + self._rng.normal(0, self._shaken * self._size, 3)
        speed, most = np.linalg.norm(self._velocity), self._top_speed * self._size
        if speed > most:
            self._velocity *= most / speed
        roll_velocity = self._roll_velocity + self._rng.normal(0, self._roll_shaken)
        self._roll_velocity = np.clip(roll_velocity, -self._top_roll_speed, self._top_roll_speed)

    def _look(self, data: Any) -> None:
        """Puts the camera where it is by now; MuJoCo puts it back with its next step."""
        point = self._point if self._is_fixed else self._looked_at(data)
        place = cartesian(self._place) + self._centre(data)
        turned = (upright if self._upright else least_turned)(point - place)
        data.cam_xpos[self._camera] = place
        data.cam_xmat[self._camera] = (turned @ about_z(self._roll)).ravel()

    def _centre(self, data: Any) -> np.ndarray:
        """What its place is told from, (3,)."""
        return np.zeros(3) if self._is_fixed else data.subtree_com[1].copy()

    def _looked_at(self, data: Any) -> np.ndarray:
        """Where the task's own camera looks, as far away as the centre of mass is, (3,)."""
        own: np.ndarray = data.cam_xpos[self._camera]
        ahead: np.ndarray = -data.cam_xmat[self._camera].reshape(3, 3)[:, 2]
        return own + ahead * float(np.linalg.norm(own - data.subtree_com[1]))


class Sky:
    """A clip for a sky, from a random frame on, to and fro.

    The sky is a cube, and the clip is on each of its faces.
    """

    def __init__(self, model: Any, clips: tuple[np.ndarray, ...], moves: bool) -> None:
        texture = model.texture("skybox").id
        side = clips[0].shape[1]
        model.tex_width[texture] = model.tex_height[texture] = side  # a square: one picture for all faces
        first = model.tex_adr[texture]
        self._pixels = model.tex_data[first : first + side * side * 3]
        self._clips = clips
        self._moves = moves

    def begin(self, rng: np.random.Generator, data: Any) -> None:
        self._clip = self._clips[rng.integers(len(self._clips))]
        self._frame = int(rng.integers(len(self._clip)))
        self._direction = int(rng.choice([-1, 1]))
        self._pixels[:] = self._clip[self._frame].ravel()

    def step(self, data: Any) -> None:
        if self._moves and len(self._clip) > 1:
            if not 0 <= self._frame + self._direction < len(self._clip):
                self._direction = -self._direction
            self._frame += self._direction
            self._pixels[:] = self._clip[self._frame].ravel()


def spherical(at: np.ndarray) -> np.ndarray:
    """Radius, azimuth in (-pi, pi], and angle from the zenith, of x, y, z."""
    x, y, z = at
    flat = np.hypot(x, y)
    return np.array([np.hypot(flat, z), np.arctan2(y, x), np.arctan2(flat, z)])


def cartesian(place: np.ndarray) -> np.ndarray:
    """x, y, z of radius, azimuth, and angle from the zenith."""
    radius, azimuth, zenith = place
    flat = radius * np.sin(zenith)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), radius * np.cos(zenith)])


def upright(ahead: np.ndarray) -> np.ndarray:
    """The turn (3, 3) of a camera that looks `ahead`, its horizon level; columns are its right, up and back."""
    back = -ahead / np.linalg.norm(ahead)
    heading = np.arctan2(ahead[0], ahead[1])
    right = np.array([np.cos(heading), -np.sin(heading), 0])
    return np.stack([right, np.cross(back, right), back], 1)


def least_turned(ahead: np.ndarray) -> np.ndarray:
    """The turn (3, 3) of a camera that looks `ahead`, by the shortest way from looking straight down."""
    x, y, z = ahead / np.linalg.norm(ahead)
    about = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])  # Rodrigues' formula; the axis is down x ahead
    turn: np.ndarray = np.eye(3) + about + about @ about / (1 - z)
    return turn


def about_z(angle: float) -> np.ndarray:
    """A turn (3, 3) about the third axis."""
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
