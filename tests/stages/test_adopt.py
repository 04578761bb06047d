from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from worldmodels import DreamEnv, models
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core.errors import UserError
from worldmodels.data.rollouts import Rollouts
from worldmodels.settings.command_line import parse
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig, VisionConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision


def recorded(seed: int, steps: int, pictures: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """An episode of noise, with pictures of 48 by 80."""
    rng = np.random.default_rng(seed)
    arrays = {
        "obs": rng.integers(0, 256, (pictures or steps + 1, 48, 80, 3), np.uint8),
        "action": rng.uniform(-1, 1, (steps, 2)),
        "reward": rng.normal(size=steps),
        "terminated": np.arange(steps) == steps - 1,
    }
    return {name: value for name, value in (arrays | changes).items() if value is not None}


def take(folder: Path, words: str = "") -> Rollouts:
    common = f"--env mine --from {folder / 'theirs'} --data {folder / 'data'} --run {folder / 'run'} --workers 0"
    collect(parse(CollectConfig, [*common.split(), *words.split()]))
    return Rollouts(folder / "data/rollouts", "mine")


def write(folder: Path, *all_arrays: dict[str, np.ndarray]) -> None:
    (folder / "theirs").mkdir(exist_ok=True)
    for number, arrays in enumerate(all_arrays):
        np.savez_compressed(folder / f"theirs/{number}.npz", **arrays)


def small(picture: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR)).astype(int)


def test_episodes_in_files_of_their_own_become_rollouts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    all_arrays = [recorded(seed, 5 + seed) for seed in range(5)]
    all_arrays[3]["terminated"][:] = False
    write(tmp_path, *all_arrays)
    found = take(tmp_path, "--shard-size 3")
    assert [list(shard.lengths) for shard in found.shards] == [[5, 6, 7], [8, 9]]
    assert [list(shard.terminated) for shard in found.shards] == [[True] * 3, [False, True]]
    episode = found.shards[1].episode(1)
    assert np.allclose(episode.action, all_arrays[4]["action"]) and np.allclose(episode.reward, all_arrays[4]["reward"])
    for ours, theirs in zip(episode.obs, all_arrays[4]["obs"], strict=True):
        assert np.abs(ours.astype(int) - small(theirs)).max() <= 1
    assert "return of recorded (5)" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds recordings already; add --fresh to take these instead"):
        take(tmp_path)
    assert len(take(tmp_path, "--fresh").shards) == 1


def test_h5_groups_are_episodes_and_keys_are_what_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with h5py.File(tmp_path / "theirs/all.h5", "w") as file:
        for seed in range(2):
            arrays = recorded(seed, 6)
            group = file.create_group(f"episode_{seed}")
            group["pictures"] = np.moveaxis(arrays["obs"], 3, 1)  # channels first
            group["actions"] = np.arange(6) % 3
            group["rewards"] = arrays["reward"].reshape(6, 1)
            group["dones"] = np.array([True])  # one for the whole of it
        file["elsewhere"] = h5py.ExternalLink("secret.h5", "/")
    keys = "--keys obs=pictures action=actions reward=rewards terminated=dones"
    (shard,) = take(tmp_path, keys).shards
    assert list(shard.lengths) == [6, 6] and shard.terminated.all()
    episode = shard.episode(0)
    assert episode.action.shape == (6, 3) and np.array_equal(episode.action.argmax(1), np.arange(6) % 3)
    assert set(np.unique(episode.action)) == {-1, 1}
    assert np.abs(episode.obs[0].astype(int) - small(recorded(0, 6)["obs"][0])).max() <= 1
    with pytest.raises(UserError, match=r"all.h5 holds no arrays obs and action; say what they are called: --keys"):
        take(tmp_path, "--fresh")


def test_episodes_end_to_end_without_a_last_picture(tmp_path: Path) -> None:
    """One that terminated shows its last picture twice; one that was cut off ends a step earlier."""
    terminated, truncated = np.zeros((2, 20), bool)
    terminated[6] = truncated[13] = True
    arrays = recorded(0, 20, 20, terminated=terminated, truncated=truncated, reward=None)
    write(tmp_path, arrays)
    (shard,) = take(tmp_path).shards
    assert list(shard.lengths) == [7, 6, 5] and list(shard.terminated) == [True, False, False]
    first, second, third = (shard.episode(at) for at in range(3))
    assert np.array_equal(first.obs[-1], first.obs[-2]) and not first.reward.any()
    assert np.allclose(second.action, arrays["action"][7:13]) and np.allclose(third.action, arrays["action"][14:19])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"obs": np.zeros((9, 48, 80, 3), np.float32)}, r"1.npz: obs are float32 .9, 48, 80, 3.; pictures are needed"),
        ({"obs": np.zeros((9, 5), np.uint8)}, r"1.npz: obs are uint8 .9, 5.; pictures are needed"),
        ({"obs": np.zeros((4, 48, 80, 3), np.uint8)}, "1.npz: 4 of obs and 8 of action"),
        ({"action": np.full((8, 2), 3.0)}, r"1.npz: actions go from 3 to 3; scale them to \[-1, 1\]"),
        ({"action": np.zeros((8, 5))}, "actions of 2 numbers, and others of 5"),
        ({"action": np.zeros(8, int)}, "1.npz: actions are int64"),
        ({"reward": np.full(8, np.nan)}, "1.npz: rewards are finite float32"),
        ({"reward": np.zeros(5)}, "1.npz: 8 of action, 5 of reward, 8 of terminated; as many of each are needed"),
        ({"obs": np.array([None], object)}, "1.npz cannot be read .*pickle"),
        ({"action": None}, "1.npz holds no arrays obs and action"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_left(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    write(tmp_path, recorded(0, 8), recorded(1, 8, **changes))
    with pytest.raises(UserError, match=told):
        take(tmp_path, "--shard-size 2")
    assert not list((tmp_path / "data").rglob("*.h5"))


def test_actions_are_scaled_by_what_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Each number by the least and the greatest of all files; one that never changes is 0."""
    wide = {seed: np.stack([np.arange(8) * (seed + 1), np.full(8, 3.0)], 1) for seed in range(2)}
    write(tmp_path, *(recorded(seed, 8, action=action) for seed, action in wide.items()))
    (shard,) = take(tmp_path, "--scale-actions").shards
    for seed, action in wide.items():
        assert np.allclose(shard.episode(seed).action, np.stack([action[:, 0] / 7 - 1, np.zeros(8)], 1), atol=1e-6)
    assert "note: actions are scaled: -1 is 0, 3, and 1 is 14, 3" in capsys.readouterr().out
    write(tmp_path, recorded(0, 8, action=np.full((8, 2), np.nan)))
    with pytest.raises(UserError, match=r"0.npz: there are actions that are no numbers"):
        take(tmp_path, "--scale-actions --fresh")
    write(tmp_path, recorded(0, 8, action=np.zeros((8, 3))))
    with pytest.raises(UserError, match=r"1.npz: actions of 3 numbers, and others of 2"):
        take(tmp_path, "--scale-actions --fresh")
    write(tmp_path, recorded(0, 8, action=np.float64(3)))
    with pytest.raises(UserError, match=r"0.npz: .*as many of each are needed"):
        take(tmp_path, "--fresh")


@pytest.mark.parametrize("content", [b"", b"PK", b"nonsense", "cut", "flipped", "npy"])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes | str) -> None:
    write(tmp_path, recorded(0, 8), recorded(1, 8))
    path = tmp_path / "theirs/1.npz"
    whole = bytearray(path.read_bytes())
    if content == "flipped":
        whole[len(whole) // 2] ^= 255
    elif content == "npy":
        np.save(tmp_path / "x.npy", np.zeros(3))
        whole = bytearray((tmp_path / "x.npy").read_bytes())
    path.write_bytes(content if isinstance(content, bytes) else whole[:-9] if content == "cut" else whole)
    with pytest.raises(UserError, match=r"1.npz cannot be read"):
        take(tmp_path)
    assert not list((tmp_path / "data").rglob("*.h5"))


def test_v_m_and_c_learn_from_recordings_of_no_environment(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path, *(recorded(seed, 30) for seed in range(4)))
    take(tmp_path)
    common = f"--env mine --data {tmp_path / 'data'} --run {tmp_path / 'run'} --workers 0 --preset tiny --steps 2"
    train_vision(parse(VisionConfig, [*common.split(), "--batch-size", "8"]))
    memory = [*common.split(), "--batch-size", "2", "--hidden-size", "8"]
    with pytest.raises(UserError, match=r"--env mine is unknown; .*; --real-episodes 0 trains without it"):
        train_memory(parse(MemoryConfig, memory))
    train_memory(parse(MemoryConfig, [*memory, "--real-episodes", "0"]))
    model = models.load(tmp_path / "run", env="mine")
    assert model.action_size == 2 and len(model.starts) > 0
    dreams = DreamEnv(model, num_envs=2, inputs=("z", "h"), tau=1.0, max_steps=5)
    dreams.reset(seed=0)
    _, reward, *_ = dreams.step(np.zeros((2, 2), np.float32))
    assert np.isfinite(reward).all()
    words = [*common.replace("--steps 2", "--dream --tau 1 1.5 --generations 1 --pop-size 4 --episodes 1").split()]
    words += ["--max-steps", "5", "--test-every", "1", "--test-episodes", "2"]
    with pytest.raises(UserError, match=r"--env mine is unknown; .*; --final-episodes 0 learns without it"):
        train_controller(parse(ControllerConfig, words))
    train_controller(parse(ControllerConfig, [*words, "--final-episodes", "0"]))
    spec, params, about = load_controller(tmp_path / "run/controller/tau1")
    assert spec.env.name == "mine" and np.isfinite(params).all()
    assert "real" not in about and about["trained"]["n"] == 2
    assert (tmp_path / "run/controller/sweep.png").exists()
    told = capsys.readouterr().out
    assert "evolved in dreams at τ 1.5: there" in told and "real" not in told.split("C of mine after")[1]


def test_flags_that_do_not_fit_are_told(tmp_path: Path) -> None:
    write(tmp_path, recorded(0, 8))
    for words, told in (
        ("", "holds one episode; two are needed"),
        ("--keys frames", "--keys frames: give NAME=THEIRS, NAME one of obs, action"),
        ("--policy held", "--policy is for episodes that are played; leave it out, or --from"),
        ("--dry-run", "--dry-run measures what is played"),
    ):
        with pytest.raises(UserError, match=told):
            take(tmp_path, words)
    with pytest.raises(UserError, match="--keys does nothing without --from"):
        parse(CollectConfig, ["--keys", "obs=x"])
    with pytest.raises(UserError, match="--scale-actions does nothing without --from"):
        parse(CollectConfig, ["--scale-actions"])
    (tmp_path / "theirs/notes.txt").touch()
    with pytest.raises(UserError, match=r"notes.txt is none of \.npz, \.h5, \.hdf5, main_data\.hdf5, meta/info\.json"):
        collect(parse(CollectConfig, ["--from", str(tmp_path / "theirs/notes.txt"), "--data", str(tmp_path / "data")]))
    with pytest.raises(UserError, match=r"nowhere holds no \.npz, \.h5, \.hdf5"):
        collect(parse(CollectConfig, ["--from", str(tmp_path / "nowhere"), "--data", str(tmp_path / "data")]))
