"""CarRacing: drive round a random track, seen from above.

Gymnasium's CarRacing-v3 with the paper's picture (CLASSIC 1.1): the bar of indicators cut off, the rest 64x64.
"""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.box2d import car_racing

from worldmodels.envs.distract import Background
from worldmodels.envs.images import ImageEnv, to_obs
from worldmodels.seeding import rng

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window, no display needed
import pygame

ROWS = 84  # of 96; below them lies the bar of indicators
MAX_STEPS = 1000
W, H = car_racing.WINDOW_W, car_racing.WINDOW_H


class CarRacing(ImageEnv):
    """Action (3,) in [-1, 1]: steering, gas (-1 none, 1 full), brake (0 and below none, 1 full).

    Args:
        background: drawn where grass and field are, which are green.
        truth: tell the true state in `info["truth"]`: speed, and how the car lies to the middle of the road.
        options: of Gymnasium's environment.
    """

    def __init__(self, background: Background | None = None, truth: bool = False, **options: Any) -> None:
        self._track = FastCarRacing(render_mode="rgb_array", **options)
        self._background, self._tell = background, truth
        super().__init__(gymnasium.wrappers.TimeLimit(self._track, MAX_STEPS))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        gymnasium.Env.reset(self, seed=seed)
        if self._background:  # by a stream of its own, for the track is laid from the same seed
            self._background.begin(rng(int(self.np_random.integers(2**31)), "background"))
        obs, info = super().reset(seed=seed, options=options)
        return obs, info | self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, truncated, info | self._info()

    def see(self, picture: np.ndarray) -> np.ndarray:
        picture = picture[:ROWS]
        if self._background:
            red, green, blue = np.moveaxis(picture, -1, 0)
            behind = (green > red) & (green > blue)
            picture = np.where(behind[..., None], self._background.picture(*behind.shape), picture)
        return to_obs(picture)

    def to_native(self, action: np.ndarray) -> np.ndarray:
        steer, gas, brake = np.asarray(action, np.float32)
        return np.array([steer, (gas + 1) / 2, max(brake, 0.0)], np.float32)

    def _info(self) -> dict[str, Any]:
        return {"truth": _truth(self._track)} if self._tell else {}


def _truth(env: Any) -> dict[str, np.ndarray]:
    """Speed in m/s; offset to the right of the middle of the road in m; angle to the road in radians, in (-pi, pi]."""
    hull, track = env.car.hull, np.array(env.track)  # track: (N, 4) of alpha, beta, x, y
    away = np.array(hull.position) - track[:, 2:]
    nearest = int((away**2).sum(1).argmin())
    beta = track[nearest, 1]  # the road runs along (-sin beta, cos beta)
    offset = away[nearest] @ (np.cos(beta), np.sin(beta))
    angle = (hull.angle - beta + np.pi) % (2 * np.pi) - np.pi
    truth = {"speed": np.hypot(*hull.linearVelocity), "road offset": offset, "road angle": angle}
    return {name: np.array([value], np.float32) for name, value in truth.items()}


class FastCarRacing(car_racing.CarRacing):
    """Gymnasium's environment, to the pixel in the rows that are kept, at more than twice its speed.

    Gymnasium turns every polygon of the track and the grass, some 700, to find the thirty or so that can be seen; here
    numpy finds them at once. The indicators, which are cut off, are drawn for people only.
    """

    surf: Any
    car: Any

    def reset(self, **arguments: Any) -> tuple[np.ndarray, dict]:
        self._corners = np.empty((0, 4, 2))
        return super().reset(**arguments)

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels" or "t" not in self.__dict__:
            return super()._render(mode)
        self.surf = pygame.Surface((W, H))
        angle = -self.car.hull.angle
        zoom = 0.1 * car_racing.SCALE * max(1 - self.t, 0) + car_racing.ZOOM * car_racing.SCALE * min(self.t, 1)
        x, y = self.car.hull.position
        shift = pygame.math.Vector2((-x * zoom, -y * zoom)).rotate_rad(angle)
        translation = (W / 2 + shift[0], H / 4 + shift[1])
        self._render_road(zoom, translation, angle)
        self.car.draw(self.surf, zoom, translation, angle, False)
        self.surf = pygame.transform.flip(self.surf, False, True)
        return self._create_image_array(self.surf, (car_racing.STATE_W, car_racing.STATE_H))

    def _render_road(self, zoom: float, translation: tuple[float, float], angle: float) -> None:
        if not len(self._corners):
            self._polygons = [*_grass(self.grass_color), *self.road_poly]
            self._corners = np.array([corners for corners, _ in self._polygons], np.float64)  # (N, 4, 2)
        edge = car_racing.PLAYFIELD
        field = [(edge, edge), (edge, -edge), (-edge, -edge), (-edge, edge)]
        self._draw_colored_polygon(self.surf, field, self.bg_color, zoom, translation, angle, clip=False)
        turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        at = self._corners @ turn + translation
        low, high = at.min(1), at.max(1)
        for index in np.flatnonzero((high >= -2).all(1) & (low <= (W + 2, H + 2)).all(1)):  # 2 pixels of rounding
            corners, color = self._polygons[index]  # a tile changes its colour once it was visited
            color = [int(c) for c in color]
            self._draw_colored_polygon(self.surf, [(p[0], p[1]) for p in corners], color, zoom, translation, angle)


def _grass(color: Any) -> list[tuple[list[tuple[float, float]], Any]]:
    size = car_racing.GRASS_DIM
    return [
        (
            [(size * x + size, size * y), (size * x, size * y), (size * x, size * y + size),
             (size * x + size, size * y + size)],
            color,
        )
        for x in range(-20, 20, 2)
        for y in range(-20, 20, 2)
    ]  # fmt: skip
