import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_episode, write_shard
from worldmodels.core.errors import UserError
from worldmodels.data.chunks import ahead, arrivals, chunk_batches, held_out_chunks
from worldmodels.data.rollouts import Rollouts
from worldmodels.data.shard import Shard, open_shard


def read(shard: Shard, frames: slice) -> np.ndarray:
    return shard.read("obs", frames.start, frames.stop)


def shards(folder: Path, lengths: list[list[int]], seed: int = 0) -> Rollouts:
    rng = np.random.default_rng(seed)
    for i, row in enumerate(lengths):
        episodes = [make_episode(rng, n, terminated=bool(k % 2)) for k, n in enumerate(row)]
        write_shard(folder / f"{i}.h5", episodes, {"env": "toy"})
    return Rollouts(folder, "toy")


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 10))
def test_rewards_and_actions_stand_where_they_led_to(lengths: list[int], seed: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        shard = shards(Path(folder), [lengths], seed).shards[0]
        table = arrivals(shard, range(len(lengths)))
        at = 0
        for index in range(len(lengths)):
            episode = shard.episode(index)
            rows = slice(at, at := at + len(episode) + 1)
            assert table["is_first"][rows].tolist() == [1.0] + [0.0] * len(episode)
            action, reward = table["arrival_action"][rows], table["arrival_reward"][rows]
            assert reward[0] == 0 and not action[0].any()  # the reset frame's
            assert np.array_equal(reward[1:], episode.reward)
            assert np.array_equal(action[1:], episode.action)
            assert table["terminated"][rows].tolist() == [0.0] * len(episode) + [float(episode.terminated)]
        assert at == len(table["arrival_reward"])


def test_what_is_still_to_be_paid_by_hand_and_unknown_beyond_a_cut() -> None:
    reward = np.random.default_rng(0).normal(size=40).astype(np.float32)
    whole = ahead(reward, True, (2, 5))
    for k, horizon in enumerate((2, 5)):
        g = 1 - 1 / horizon
        wanted = [sum((1 - g) * g**i * r for i, r in enumerate(reward[t:].astype(float))) for t in range(41)]
        assert whole[:, k] == pytest.approx(np.array(wanted), abs=1e-6)
    assert not whole[-1].any()
    cut = ahead(reward, False, (2, 5))
    known = ~np.isnan(cut)
    assert known.sum(0).tolist() == [37, 30]  # 0.5^4 and 0.8^11 are the first below a tenth
    g = 1 - 1 / np.array([2, 5])
    beyond = g ** np.arange(40, -1, -1)[:, None]
    assert cut[known] == pytest.approx(whole[known] / (1 - beyond[known]), abs=1e-6)
    constant = ahead(np.full(40, 2.0, np.float32), False, (2, 5))
    assert constant[~np.isnan(constant)] == pytest.approx(2.0)  # no clock is to be foreseen


def test_windows_tell_returns_if_they_are_asked_to(tmp_path: Path) -> None:
    rollouts = shards(tmp_path, [[9, 12, 30], [14, 8, 30], [20]])  # the last has none to learn from
    horizons = (3,)
    told = {}
    for shard in rollouts.shards:
        for index in range(len(shard.lengths)):
            episode = shard.episode(index)
            returns = ahead(episode.reward, episode.terminated, horizons)
            told |= {obs.tobytes(): row for obs, row in zip(episode.obs, returns, strict=True)}
    order = functools.partial(np.random.default_rng)
    batches = itertools.islice(chunk_batches(rollouts, "obs", read, 3, 4, 10_000, order, horizons=horizons), 5)
    for batch in [*batches, *held_out_chunks(rollouts, "obs", read, 3, 4, horizons)]:
        assert batch["ahead"].shape == (*batch["is_first"].shape, 1)
        for obs, row in zip(batch["obs"].flatten(0, 1), batch["ahead"].flatten(0, 1), strict=True):
            assert np.array_equal(row.numpy(), told[obs.numpy().tobytes()], equal_nan=True)


def test_windows_keep_frames_beside_what_led_to_them_and_leave_held_out_episodes_alone(tmp_path: Path) -> None:
    rollouts = shards(tmp_path, [[9, 12, 30], [14, 8, 30]])
    source = chunk_batches(rollouts, "obs", read, 3, 4, 10_000, lambda epoch: np.random.default_rng(epoch))
    known, held = {}, set()
    for shard in rollouts.shards:
        for index in range(3):
            episode = shard.episode(index)
            for t, obs in enumerate(episode.obs):
                if index == 2:
                    held.add(obs.tobytes())
                known[obs.tobytes()] = float(episode.reward[t - 1]) if t else 0.0
    seen = set()
    for batch in itertools.islice(source, 60):
        assert batch["obs"].shape == (3, 4, 64, 64, 3) and batch["arrival_action"].shape == (3, 4, 2)
        assert (batch["is_first"][:, 0] == 1).all()
        for obs, reward in zip(batch["obs"].flatten(0, 1), batch["arrival_reward"].flatten(), strict=True):
            key = obs.numpy().tobytes()
            assert key not in held and known[key] == pytest.approx(float(reward))
            seen.add(key)
    assert len(seen) == 10 + 13 + 15 + 9  # every training frame, since each epoch cuts at another offset


def test_skipping_equals_having_read(tmp_path: Path) -> None:
    rollouts = shards(tmp_path, [[9, 12, 30], [14, 8, 30], [20, 3, 3]])

    def take(skip: int, count: int) -> list[torch.Tensor]:
        rng_of = lambda epoch: np.random.default_rng(epoch)  # noqa: E731
        source = chunk_batches(rollouts, "obs", read, 2, 4, 30, rng_of, skip)
        return [batch["obs"] for batch in itertools.islice(source, count)]

    whole = take(0, 20)
    assert all(torch.equal(a, b) for a, b in zip(take(7, 13), whole[7:], strict=True))


def test_held_out_windows_come_from_held_out_episodes_only(tmp_path: Path) -> None:
    rollouts = shards(tmp_path, [[9, 30], [14, 20]])
    (batch,) = held_out_chunks(rollouts, "obs", read, 5, 8)
    held = {obs.tobytes() for shard in rollouts.shards for obs in open_shard(shard.path).episode(-1).obs}
    assert all(obs.numpy().tobytes() in held for obs in batch["obs"].flatten(0, 1))


def test_too_little_data_names_the_flag(tmp_path: Path) -> None:
    rollouts = shards(tmp_path, [[3, 3]])
    with pytest.raises(UserError, match="--sequence-length 64 is too long for the 4 training frames"):
        next(chunk_batches(rollouts, "obs", read, 2, 64, 30, np.random.default_rng))
