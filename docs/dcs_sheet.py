"""Draws docs/dcs.png, what the Distracting Control Suite shows: `python docs/dcs_sheet.py`.

Rows: two tasks, distracted by camera, colour, background, all three. Columns: two episodes each at easy, medium, hard.
The clips are photographs that scikit-image ships, slowly panned.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from worldmodels.envs import make_env
from worldmodels.envs.clips import SPLITS
from worldmodels.envs.distract import background
from worldmodels.settings.envspec import PARTS, EnvSpec, Intensity, Part

PICTURE = Path(__file__).with_name("dcs.png")
TASKS = ("walker-walk", "cartpole-swingup")
INTENSITIES: tuple[Intensity, ...] = ("easy", "medium", "hard")
EPISODES = (1, 4)
STEPS = 8  # after which a picture is taken
CLIPS = (4, 11, 21, 8, 34, 24, 10, 27)  # seeds of some that are not dark, as many as medium needs
FRAMES = 20
COARSE = np.uint8(0xFC)  # six bits of eight, for a file of two thirds


def write_clips(folder: Path) -> None:
    """Clips as folders of pictures, for training and for tests."""
    for split in SPLITS:
        for i, seed in enumerate(CLIPS):
            behind = background(EnvSpec("doom", distractor="stills", colour=True, split=split))
            assert behind is not None
            behind.begin(np.random.default_rng(seed))
            clip = folder / split / str(i)
            clip.mkdir(parents=True)
            for t in range(FRAMES):
                Image.fromarray(behind.picture(128, 128)).save(clip / f"{t:05}.png")


def shown(spec: EnvSpec) -> Iterator[np.ndarray]:
    """A picture of each episode, uint8 (64, 64, 3)."""
    env = make_env(spec)
    for seed in EPISODES:
        env.reset(seed=seed)
        for _ in range(STEPS):
            obs = env.step(np.zeros(env.action_space.shape, np.float32))[0]
        yield obs
    env.close()


def row(task: str, parts: tuple[Part, ...], clips: str) -> np.ndarray:
    videos = clips if "background" in parts else ""
    specs = [EnvSpec(f"dmc:{task}", 2, "dcs", videos, intensity=each, parts=parts) for each in INTENSITIES]
    return np.concatenate([picture for spec in specs for picture in shown(spec)], 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as clips:
        write_clips(Path(clips))
        rows = [row(task, parts, clips) for task in TASKS for parts in (*((part,) for part in PARTS), PARTS)]
    Image.fromarray(np.concatenate(rows) & COARSE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
