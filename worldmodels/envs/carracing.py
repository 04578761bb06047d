"""CarRacing: drive round a random track, seen from above.

Gymnasium's CarRacing-v3 with the paper's picture (CLASSIC 1.1), the bar of indicators cut off.
"""

import dataclasses
import functools
import itertools
import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.box2d import car_racing

from worldmodels.core.seeding import rng
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.envs.checked import Info
from worldmodels.envs.distract import Background
from worldmodels.envs.images import ImageEnv, as_authors

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window, no display needed
import pygame
import pygame.gfxdraw

ROWS = 84  # of 96; below them lies the bar of indicators
MAX_STEPS = 1000
ROUNDING = 2  # pixels by which what is drawn may stick out


@dataclasses.dataclass(frozen=True)
class Camera:
    """The window through which the track is seen from above."""

    width: int
    height: int
    follows_motion: bool = False  # up is where the car goes, once it does; else where it points

    @property
    def cut(self) -> int:
        """Pixels of the window that are cut off."""
        return self.height * (car_racing.STATE_H - ROWS) // car_racing.STATE_H

    @functools.cached_property
    def kept(self) -> pygame.Rect:
        """What is left; y upwards: the window is drawn upside down."""
        return pygame.Rect(0, self.cut, self.width, self.height - self.cut)

    @functools.cached_property
    def reach(self) -> float:
        """Pixels from the car to any point of the window, and more."""
        return float(np.hypot(self.width / 2, self.height))

    def angle(self, hull: Any) -> float:
        """By how much what it shows is turned, in radians."""
        moves = hull.linearVelocity
        if self.follows_motion and np.hypot(*moves) > SLOW:
            return float(np.arctan2(moves[0], moves[1]))
        return float(-hull.angle)


SLOW = 0.5  # m/s, up to which a camera does not follow
GYMNASIUM = Camera(car_racing.WINDOW_W, car_racing.WINDOW_H)
AUTHORS = Camera(1200, 1000, follows_motion=True)  # gym 0.9.4's (CLASSIC 1.7)


class CarRacing(ImageEnv):
    """Action (3,) in [-1, 1]: steering, gas (-1 none, 1 full), brake (0 and below none, 1 full).

    Args:
        action_repeat: frames per action, whose rewards add up; only the last one is drawn.
        background: drawn where grass and field are, which are green.
        truth: tell the true state in `info["truth"]`: speed, and how the car lies to the middle of the road.
        authors_pixels: show the authors' frames, through their camera, to weights that they published.
        options: of Gymnasium's environment.
    """

    def __init__(
        self,
        action_repeat: int = 1,
        background: Background | None = None,
        truth: bool = False,
        authors_pixels: bool = False,
        **options: Any,
    ) -> None:
        self._authors = authors_pixels
        camera = AUTHORS if authors_pixels else GYMNASIUM
        self._track = FastCarRacing(camera, action_repeat, render_mode="rgb_array", **options)
        self._background = background
        self._tell = truth
        super().__init__(gymnasium.wrappers.TimeLimit(self._track, max(1, MAX_STEPS // action_repeat)))
        self.metadata = self._track.metadata | {"render_fps": car_racing.FPS / action_repeat}
        shape = OBS_SHAPE if authors_pixels else (ROWS, car_racing.STATE_W, 3)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        gymnasium.Env.reset(self, seed=seed)
        if self._background:  # by a stream of its own, for the track is laid from the same seed
            self._background.begin(rng(int(self.np_random.integers(2**31)), "background"))
        obs, info = super().reset(seed=seed, options=options)
        return obs, info | self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        obs, reward, terminated, truncated, info = super().step(action)
        if info.get("lap_finished"):
            # Who sees a part of the road does not know how much of the lap is left; as an end it would be shunned.
            terminated = False
            truncated = True
        return obs, reward, terminated, truncated, info | self._info()

    def see(self, picture: np.ndarray) -> np.ndarray:
        picture = picture[:ROWS]
        if self._background:
            red, green, blue = np.moveaxis(picture, -1, 0)
            behind = (green > red) & (green > blue)
            picture = np.where(behind[..., None], self._background.picture(*behind.shape), picture)
        return as_authors(picture) if self._authors else picture

    def to_native(self, action: np.ndarray) -> np.ndarray:
        steer, gas, brake = np.asarray(action, np.float32)
        return np.array([steer, (gas + 1) / 2, max(brake, 0.0)], np.float32)

    def _info(self) -> Info:
        return {"truth": _truth(self._track)} if self._tell else {}


def _truth(env: Any) -> dict[str, np.ndarray]:
    """Speed in m/s; metres to the right of the road's middle; angle to the road in radians, in (-pi, pi]."""
    hull = env.car.hull
    track = np.array(env.track)  # (N, 4): alpha, beta, x, y
    away = np.array(hull.position) - track[:, 2:]
    nearest = int((away**2).sum(1).argmin())
    beta = track[nearest, 1]  # the road runs along (-sin beta, cos beta)
    offset = away[nearest] @ (np.cos(beta), np.sin(beta))
    angle = (hull.angle - beta + np.pi) % (2 * np.pi) - np.pi
    truth = {"speed": np.hypot(*hull.linearVelocity), "road offset": offset, "road angle": angle}
    return {name: np.array([value], np.float32) for name, value in truth.items()}


class FastCarRacing(car_racing.CarRacing):
    """Gymnasium's environment, to the pixel in the rows that are kept, at more than three times its speed.

    What it saves: Gymnasium turns every polygon of the track and the grass, some 700, to find the thirty or
    so that can be seen, where numpy finds them at once; it draws the field as a polygon, where it fills the
    whole window; it turns the window upside down before it is made small; and it draws what is cut off.
    People see Gymnasium's own picture. Through another camera than Gymnasium's it is another picture.
    """

    car: Any

    def __init__(self, camera: Camera = GYMNASIUM, action_repeat: int = 1, **options: Any) -> None:
        self._camera = camera
        self._repeat = action_repeat
        self._blind = False  # whether a picture would not be looked at
        super().__init__(**options)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Info]:
        total = 0.0
        repeat = 1 if action is None else self._repeat  # by none an episode begins
        for left in reversed(range(repeat)):
            self._blind = left > 0
            picture, reward, terminated, truncated, info = super().step(action)
            total += reward
            if terminated or truncated:
                break
        if self._blind:  # it was over sooner
            self._blind = False
            picture = self.state = self._render("state_pixels")
        return picture, total, terminated, truncated, info

    def _create_track(self) -> bool:
        if not super()._create_track():  # type: ignore[no-untyped-call]
            return False  # Gymnasium tries again
        self._window = pygame.Surface((self._camera.width, self._camera.height))
        self._kept = self._window.subsurface(self._camera.kept)
        polygons = [*((square, self.grass_color) for square in _grass()), *self.road_poly]
        self._colors = [color for _, color in polygons]  # a tile changes its colour once it was visited
        corners = np.transpose([corners for corners, _ in polygons])  # (2, 4, N): x and y
        self._corners = np.ascontiguousarray(corners)
        return True

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        if self._blind:
            return self.state
        angle = self._camera.angle(self.car.hull)
        far = 0.1 * car_racing.SCALE  # an episode begins with a look from far away
        near = car_racing.ZOOM * car_racing.SCALE
        zoom = far * max(1 - self.t, 0) + near * min(self.t, 1)
        x, y = self.car.hull.position
        shift = pygame.math.Vector2((-x * zoom, -y * zoom)).rotate_rad(angle)
        translation = (self._camera.width / 2 + shift[0], self._camera.height / 4 + shift[1])
        self._draw_field(max(abs(x), abs(y)), zoom, translation, angle)
        self._draw_polygons(zoom, translation, angle)
        self.car.draw(self._window, zoom, translation, angle, False)
        return self._shrink()

    def _draw_field(self, away: float, zoom: float, translation: tuple[float, float], angle: float) -> None:
        edge = car_racing.PLAYFIELD
        color = _whole(self.bg_color)
        if away + self._camera.reach / zoom < edge:  # it fills the window
            # by numpy: Surface.fill writes past the cache, and what is drawn then takes twice as long
            pygame.surfarray.pixels2d(self._window)[:, self._camera.cut :] = self._window.map_rgb(color)
        else:
            self._window.fill(0)
            field = np.array([[edge, edge, -edge, -edge], [edge, -edge, -edge, edge]])
            self._draw(_to_screen(field, zoom, translation, angle).T.tolist(), color)

    def _draw_polygons(self, zoom: float, translation: tuple[float, float], angle: float) -> None:
        at = _to_screen(self._corners, zoom, translation, angle)
        (left, top), (right, bottom) = at.min(1), at.max(1)
        camera = self._camera
        across = (right >= -ROUNDING) & (left <= camera.width + ROUNDING)
        along = (bottom >= camera.cut - ROUNDING) & (top <= camera.height + ROUNDING)
        seen = np.flatnonzero(across & along)
        for index, corners in zip(seen.tolist(), at[:, :, seen].T.tolist(), strict=True):
            self._draw(corners, _whole(self._colors[index]))

    def _draw(self, corners: list[list[float]], color: list[int]) -> None:
        pygame.gfxdraw.aapolygon(self._window, corners, color)
        pygame.gfxdraw.filled_polygon(self._window, corners, color)

    def _shrink(self) -> np.ndarray:
        """uint8 (96, 96, 3), black where the indicators would be.

        Pygame shrinks first each row, then each column, in whole numbers; the way up matters to the second
        alone.
        """
        narrow = pygame.transform.smoothscale(self._kept, (car_racing.STATE_W, self._camera.kept.height))
        upright = pygame.transform.flip(narrow, False, True)
        small = pygame.transform.smoothscale(upright, (car_racing.STATE_W, ROWS))
        picture = np.zeros((car_racing.STATE_H, car_racing.STATE_W, 3), np.uint8)
        picture[:ROWS] = np.frombuffer(pygame.image.tobytes(small, "RGB"), np.uint8).reshape(ROWS, -1, 3)
        return picture


def _to_screen(points: np.ndarray, zoom: float, translation: tuple[float, float], angle: float) -> np.ndarray:
    """Float64 (2, ...) in metres to pixels; in the order of Gymnasium's operations, so equal to the bit."""
    cos, sin = pygame.math.Vector2(1, 0).rotate_rad(angle)
    x, y = points
    across = (cos * x - sin * y) * zoom + translation[0]
    up = (sin * x + cos * y) * zoom + translation[1]
    return np.stack([across, up])


def _whole(color: Any) -> list[int]:
    return [int(channel) for channel in color]


def _grass() -> list[list[tuple[float, float]]]:
    """Every other square of every other row."""
    size = car_racing.GRASS_DIM
    square = [(size, 0), (0, 0), (0, size), (size, size)]
    corners = itertools.product(range(-20, 20, 2), repeat=2)
    return [[(size * x + dx, size * y + dy) for dx, dy in square] for x, y in corners]
