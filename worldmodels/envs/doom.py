"""Doom TakeCover: monsters at the far wall throw fireballs; step aside, survive.

ViZDoom's take_cover scenario with the paper's picture and action (CLASSIC 2.1, 2.2, 2.6), at the skill that
matches the authors' data with today's engine (4: CLASSIC 2.8).
"""

import contextlib
import functools
import os
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import vizdoom
from gymnasium import spaces

from worldmodels.data.episode import OBS_SHAPE
from worldmodels.envs.checked import Info
from worldmodels.envs.distract import Background
from worldmodels.envs.images import as_authors

TIMEOUT = 2100  # tics of 1/35 s: a minute
THRESHOLD = 1 / 3
SHAPE = (100, 160, 3)  # of the picture
AUTHORS = (400, 640, 3)  # of theirs, before it is made small
ENGINE = Path(vizdoom.__file__).parent / "vizdoom"
LEASH = Path(__file__).parent / "engine"  # a script that runs it
NEAR = 400  # units within which a fireball is near: it flies some 350 a second
NOWHERE = (np.nan, np.nan)
FLAT = 1  # the label of floor and ceiling; walls are 0, things have numbers of their own


class Doom(gymnasium.Env):
    """Action (1,): below -1/3 step left, above 1/3 step right, else stay. Reward 1 per tic survived.

    The picture is taken at 160x120, ViZDoom's smallest, with the status bar drawn and cut off, which gives
    the view the authors' geometry. After death the game shows nothing; the last picture is shown once more.

    Args:
        skill: ViZDoom's, 1 to 5.
        timeout: tics after which an episode is truncated.
        background: drawn where floor and ceiling are; walls, monsters and fireballs stay.
        authors_pixels: show the authors' frames, made of 640x480 (CLASSIC 2.1), to weights that they published.
        truth: tell the true state in `info["truth"]`: health, place, monsters and fireballs in view, the
            nearest fireball in view, and it again if it is near.
    """

    def __init__(
        self,
        skill: int = 4,
        timeout: int = TIMEOUT,
        background: Background | None = None,
        truth: bool = False,
        authors_pixels: bool = False,
    ) -> None:
        self._authors = authors_pixels
        self.observation_space = spaces.Box(0, 255, OBS_SHAPE if authors_pixels else SHAPE, np.uint8)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self._skill = skill
        self._timeout = timeout
        self._background = background
        self._tell = truth
        self._picture = np.zeros(AUTHORS if authors_pixels else SHAPE, np.uint8)

    @functools.cached_property
    def game(self) -> vizdoom.DoomGame:
        """The engine. It starts with the first episode: a look at the spaces needs none."""
        labels = self._tell or self._background is not None
        game = _start(self._skill, self._timeout, labels, large=self._authors)
        self._end = weakref.finalize(self, game.close)  # also runs when the interpreter exits
        return game

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        super().reset(seed=seed)
        self.game.set_seed(int(self.np_random.integers(2**31)))
        self.game.new_episode()
        if self._background:
            self._background.begin(np.random.default_rng(int(self.np_random.integers(2**31))))
        return self._see(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        lateral = float(np.asarray(action).reshape(()) if np.ndim(action) == 0 else action[0])
        reward = self.game.make_action([lateral < -THRESHOLD, lateral > THRESHOLD])  # buttons: left, right
        terminated = self.game.is_player_dead()
        truncated = self.game.is_episode_finished() and not terminated
        return self._see(), float(reward), terminated, truncated, self._info()

    def render(self) -> np.ndarray:
        """The last picture, uint8 (100, 160, 3), or (400, 640, 3) of the authors'."""
        return self._picture

    def close(self) -> None:
        if "game" in self.__dict__:
            self._end()

    def _see(self) -> np.ndarray:
        state = self.game.get_state()
        if state is not None:
            # below is the status bar; ViZDoom's buffer is a copy of the game's already
            rows = len(self._picture)
            self._picture = state.screen_buffer[:rows]
            if self._background:
                flat = np.asarray(state.labels_buffer)[:rows] == FLAT
                self._picture[flat] = self._background.picture(*flat.shape)[flat]
        return as_authors(self._picture) if self._authors else self._picture

    def _info(self) -> Info:
        state = self.game.get_state() if self._tell else None
        if state is not None:  # after death the last truth stands, as the last picture does
            self._truth = _truth(self.game, state)
        return {"truth": self._truth} if self._tell else {}


def _truth(game: vizdoom.DoomGame, state: vizdoom.GameState) -> dict[str, np.ndarray]:
    """What there is to see, in units of the game, whose room is some 700 wide and deep; NaN where there is none.

    Of the nearest fireball in view, how far ahead and how far to the left it is; once more where it is near.
    """
    x = game.get_game_variable(vizdoom.GameVariable.POSITION_X)
    y = game.get_game_variable(vizdoom.GameVariable.POSITION_Y)
    things = state.labels or []
    names = [thing.object_name for thing in things]
    balls = [(o.object_position_x - x, o.object_position_y - y) for o in things if "Ball" in o.object_name]
    ahead, aside = min(balls, key=lambda ball: np.hypot(*ball), default=NOWHERE)
    near = ahead <= NEAR
    truth = {
        "health": game.get_game_variable(vizdoom.GameVariable.HEALTH),
        "place": y,
        "monsters": sum("Imp" in name and "Ball" not in name for name in names),
        "fireballs": len(balls),
        "fireball distance": ahead,
        "fireball offset": aside,
        "near fireball distance": ahead if near else np.nan,
        "near fireball offset": aside if near else np.nan,
    }
    return {name: np.array([value], np.float32) for name, value in truth.items()}


def _start(skill: int, timeout: int, labels: bool, large: bool) -> vizdoom.DoomGame:
    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path) / "take_cover.cfg"))
    game.set_available_buttons([vizdoom.Button.MOVE_LEFT, vizdoom.Button.MOVE_RIGHT])
    sizes = vizdoom.ScreenResolution
    game.set_screen_resolution(sizes.RES_640X480 if large else sizes.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_render_hud(True)
    game.set_labels_buffer_enabled(labels)
    game.set_render_weapon(False)
    game.set_render_crosshair(False)
    game.set_render_decals(False)
    game.set_render_particles(False)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_doom_skill(skill)
    game.set_episode_timeout(timeout)
    game.set_doom_game_path(str(ENGINE.parent / "freedoom2.wad"))
    # without setpriv, which is Linux's, engines end with us only if we end in peace
    leashed = shutil.which("setpriv") is not None
    game.set_vizdoom_path(str(LEASH if leashed else ENGINE))
    os.environ["WORLDMODELS_DOOM_ENGINE"] = str(ENGINE)
    game.set_doom_config_path(os.devnull)  # it reads settings, and writes them when it ends
    with _scratch(), _undisturbed():
        game.init()
    return game


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
    """A folder to start the engine in, which makes another one there; neither is needed once it runs."""
    with tempfile.TemporaryDirectory(prefix="worldmodels-doom-") as folder, contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the block ends.

    ViZDoom watches for signals of its own while its engine starts, and Ctrl-C then was a segmentation fault.
    """
    before = signal.getsignal(signal.SIGINT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)  # ViZDoom leaves the system's own behind
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
