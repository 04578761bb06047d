from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import World, make_episode, write_shard
from tests.core.test_checkpoint import flip
from worldmodels import models
from worldmodels.core.errors import UserError
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.data.rollouts import Rollouts
from worldmodels.data.sequences import in_order, sequence_batches
from worldmodels.models.vae import VAE
from worldmodels.settings.models import VAESettings


def numbered(lengths: list[int]) -> list[EmbeddedEpisode]:
    """Episodes whose embeddings, actions and rewards tell which episode and step they are."""
    return [
        EmbeddedEpisode(
            embed=np.stack([np.full(n + 1, e), np.arange(n + 1)], 1).astype(np.float16),
            action=np.stack([np.full(n, e), np.arange(n)], 1).astype(np.float32),
            reward=(100 * e + np.arange(n)).astype(np.float32),
            terminated=e % 2 == 0,
        )
        for e, n in enumerate(lengths)
    ]


@given(lengths=st.lists(st.integers(1, 15), min_size=1, max_size=8), rows=st.integers(1, 6), length=st.integers(1, 12))
def test_time_is_kept_when_episodes_are_cut_into_sequences(lengths: list[int], rows: int, length: int) -> None:
    batches = list(in_order(numbered(lengths), rows, length))
    assert batches and batches[0]["fresh"] and not any(b["fresh"] for b in batches[1:])
    string = {k: torch.cat([b[k] for b in batches], 1) for k in batches[0] if k != "fresh"}  # rows, made whole
    episode, step = string["embed"].float().unbind(-1)
    assert torch.equal(string["action"][..., 1], step) and torch.equal(string["reward"], 100 * episode + step)
    assert torch.equal(string["next_embed"][..., 0].float(), episode)
    assert torch.equal(string["next_embed"][..., 1].float(), step + 1)
    assert torch.equal(string["is_first"].bool(), step == 0)
    last = step == torch.tensor(lengths)[episode.long()] - 1
    assert torch.equal(string["terminated"].bool(), last & (episode % 2 == 0))
    continues = step[:, 1:] == torch.where(last[:, :-1], 0, step[:, :-1] + 1)
    assert continues.all()  # one row is one string, through all batches


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    folder = tmp_path_factory.mktemp("codes")
    rng = np.random.default_rng(0)
    for i in range(4):
        write_shard(folder / f"r/{i}.h5", [make_episode(rng, n) for n in (5, 9, 4)], {"env": "doom"})
    made = Embeddings(folder / "codes", Rollouts(folder / "r", "doom"), vision := VAE(VAESettings(code_size=4)))
    made.write(vision, torch.device("cpu"), "fp32")
    return made


@given(skip=st.integers(0, 30), buffer=st.sampled_from([1, 25, 10**6]))
def test_skipping_equals_having_read(embeddings: Embeddings, skip: int, buffer: int) -> None:
    straight = sequence_batches(embeddings, 2, 3, buffer, np.random.default_rng)
    for _ in range(skip):
        next(straight)
    resumed = sequence_batches(embeddings, 2, 3, buffer, np.random.default_rng, skip)
    for _ in range(3):
        a, b = next(straight), next(resumed)
        assert all(torch.equal(a[k], b[k]) if k != "fresh" else a[k] == b[k] for k in a)


def test_shards_of_one_episode_each_leave_nothing_to_train_on(embeddings: Embeddings, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        write_shard(tmp_path / f"r/{i}.h5", [make_episode(rng, 6)], {"env": "doom"})
    alone = Embeddings(tmp_path / "codes", Rollouts(tmp_path / "r", "doom"), VAE(VAESettings(code_size=4)))
    with pytest.raises(UserError, match="collect more episodes"):
        next(sequence_batches(alone, 2, 4, 100, np.random.default_rng))


def test_embeddings_are_what_v_makes_of_the_frames(embeddings: Embeddings) -> None:
    shard = embeddings.rollouts.shards[2]
    torch.manual_seed(0)
    training, held = embeddings.episodes(shard), embeddings.episodes(shard, held_out=True)
    assert [len(e.action) for e in training] == [5, 9] and [len(e.action) for e in held] == [4]
    assert np.array_equal(held[0].action, shard.episode(2).action)
    assert embeddings.starts().shape == (8, 8)
    assert torch.equal(embeddings.starts()[4].half(), torch.from_numpy(training[0].embed[0]))


def test_every_frame_is_encoded_whatever_the_size_of_a_shard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_shard(tmp_path / "r/0.h5", [make_episode(rng, n) for n in (300, 250, 3)], {"env": "doom"})
    made = Embeddings(tmp_path / "codes", Rollouts(tmp_path / "r", "doom"), vision := VAE(VAESettings(code_size=4)))
    made.write(vision, torch.device("cpu"), "fp32")
    (shard,) = made.rollouts.shards
    with torch.no_grad():
        expected = vision.encode(torch.from_numpy(shard.read("obs")))
    found = torch.from_numpy(made.read(shard, slice(None)))
    torch.testing.assert_close(found.float(), expected, atol=2e-3, rtol=2e-3)  # float16 on disk


def test_a_flipped_bit_is_noticed(embeddings: Embeddings) -> None:
    shard = embeddings.rollouts.shards[0]
    path = embeddings.folder / shard.path.name
    with h5py.File(path) as file:
        at = file["embed"].id.get_chunk_info(0).byte_offset
    flip(path, at + 5)
    with pytest.raises(UserError, match=rf"{path.name} is damaged .*; delete it and run 02_train_vision"):
        embeddings.episodes(shard)
    flip(path, at + 5)  # back
    assert embeddings.episodes(shard)


def test_embeddings_of_other_rollouts_or_another_v_are_not_mistaken_for_ours(
    embeddings: Embeddings, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    other = Embeddings(embeddings.folder.parent, embeddings.rollouts, VAE(VAESettings(code_size=4)))
    with pytest.raises(UserError, match=r"lacks codes of 0\.h5; run pipelines/02_train_vision\.py"):
        other.episodes(embeddings.rollouts.shards[0])
    rng = np.random.default_rng(7)
    path = embeddings.rollouts.folder / "3.h5"
    kept = path.read_bytes()
    write_shard(path, [make_episode(rng, n) for n in (5, 9, 4)], {"env": "doom"})  # collected anew, same lengths
    again = Rollouts(embeddings.rollouts.folder, "doom")
    with pytest.raises(UserError, match=r"lacks codes of 3\.h5"):
        embeddings.episodes(again.shards[3])
    path.write_bytes(kept)


def test_the_tiny_world_has_embeddings_of_every_frame(world: World) -> None:
    rollouts = Rollouts(world.data / "rollouts", "doom")
    vision, _ = models.load_module(world.run / "vision", "vision")
    files = list(Embeddings(world.data / "codes", rollouts, vision).folder.glob("*.h5"))
    assert len(files) == len(rollouts.shards) == 2


def test_memory_is_bounded_by_the_buffer_not_by_the_data(
    embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = Embeddings.episodes

    def counting(self: Embeddings, shard: object, held_out: bool = False) -> list[EmbeddedEpisode]:
        episodes = original(self, shard, held_out)  # type: ignore[arg-type]
        read.append(sum(len(e.action) for e in episodes))
        return episodes

    monkeypatch.setattr(Embeddings, "episodes", counting)
    batches = sequence_batches(embeddings, 2, 3, 30, np.random.default_rng)
    next(batches)
    assert sum(read) == 28  # two shards of 14 training steps fit 30; all four have 56
