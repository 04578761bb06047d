import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from worldmodels.core.errors import UserError
from worldmodels.data.embeddings import EmbeddedEpisode
from worldmodels.data.rollouts import Rollouts
from worldmodels.dreams.moments import moments
from worldmodels.settings.command_line import parse
from worldmodels.settings.stages import CollectConfig
from worldmodels.stages import train_memory as stage_3
from worldmodels.stages.collect import collect


@pytest.fixture
def tiny(tmp_path: Path) -> CollectConfig:
    return CollectConfig(env="doom", data=tmp_path, workers=0, episodes=4, shard_size=2, max_steps=10)


def names(config: CollectConfig) -> list[str]:
    return sorted(path.name for path in (config.data / "rollouts").glob("*.h5"))


def test_more_episodes_keep_those_that_are_there(tiny: CollectConfig) -> None:
    collect(tiny)
    before = {name: (tiny.data / "rollouts" / name).stat().st_mtime_ns for name in names(tiny)}
    collect(dataclasses.replace(tiny, episodes=5))
    after = {name: (tiny.data / "rollouts" / name).stat().st_mtime_ns for name in names(tiny)}
    assert len(before) == 2 and len(after) == 3 and all(after[name] == time for name, time in before.items())
    assert Rollouts(tiny.data / "rollouts", "doom").num_episodes == 5


def test_it_tells_if_much_is_held_out_from_training(tiny: CollectConfig, capsys: pytest.CaptureFixture[str]) -> None:
    collect(tiny)
    assert "warning: 2 of 4 episodes are held out from training" in capsys.readouterr().out
    collect(dataclasses.replace(tiny, data=tiny.data / "larger", shard_size=4))
    assert "held out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "name"), [({"shard_size": 4}, "--shard-size 2, not 4"), ({"max_steps": 9}, "--max-steps 10, not 9")]
)
def test_other_settings_are_refused_before_they_mix(tiny: CollectConfig, change: dict, name: str) -> None:
    collect(tiny)
    with pytest.raises(UserError, match=name):
        collect(dataclasses.replace(tiny, **change))


def test_another_environments_folder_is_left_as_it_is(tiny: CollectConfig) -> None:
    collect(tiny)
    before = names(tiny)
    with pytest.raises(UserError, match=r"comes from env doom, not doom \+ noise; give another --data"):
        collect(dataclasses.replace(tiny, distractor="noise", episodes=8))
    assert names(tiny) == before


def test_fresh_deletes_what_it_makes_anew_and_nothing_else(tiny: CollectConfig) -> None:
    collect(tiny)
    collect(dataclasses.replace(tiny, policy="sweep"))
    collect(dataclasses.replace(tiny, seed=1))
    kept = [name for name in names(tiny) if not name.startswith("held-seed0")]
    collect(dataclasses.replace(tiny, fresh=True, episodes=2))
    assert [name for name in names(tiny) if not name.startswith("held-seed0")] == kept
    assert [name for name in names(tiny) if name.startswith("held-seed0")] == ["held-seed0-000000.h5"]


@pytest.mark.parametrize("change", [{"policy": "helld"}, {"env": "dooom"}])
def test_fresh_with_a_mistake_deletes_nothing(tiny: CollectConfig, change: dict) -> None:
    collect(tiny)
    with pytest.raises(UserError):
        collect(dataclasses.replace(tiny, fresh=True, **change))
    assert len(names(tiny)) == 2


def test_short_episodes_are_collected_again(tiny: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    long = dataclasses.replace(tiny, max_steps=400, min_steps=150, policy="still", data=tiny.data / "long")
    collect(long)
    assert min(Rollouts(long.data / "rollouts", "doom").shards[0].lengths) >= 150
    monkeypatch.setattr("worldmodels.stages.collect_shard.ATTEMPTS", 2)
    with pytest.raises(UserError, match="--min-steps 399 is hardly ever reached"):
        collect(dataclasses.replace(long, min_steps=399, data=tiny.data / "never"))
    with pytest.raises(UserError, match="--min-steps 2000 is more than --max-steps 20"):
        dataclasses.replace(tiny, max_steps=20, min_steps=2000)


def test_what_is_linked_is_of_the_other_folder_or_told_of(tiny: CollectConfig) -> None:
    collect(tiny)
    codes = tiny.data / "codes/of a V"
    codes.mkdir(parents=True)
    for name in (names(tiny)[0], "another.h5"):
        (codes / name).write_bytes(b"codes")
    new = dataclasses.replace(tiny, data=tiny.data / "new", also=tiny.data, policy="still")
    collect(new)
    collect(new)  # and nothing is in its own way
    (linked,) = (new.data / "codes/of a V").iterdir()  # what a V made of a shard comes along with that
    assert linked.samefile(codes / names(tiny)[0])
    assert len(names(new)) == 4 and all((new.data / "rollouts" / name).samefile(tiny.data / "rollouts" / name)
        for name in names(tiny))  # fmt: skip
    collect(dataclasses.replace(tiny, max_steps=9, fresh=True))
    with pytest.raises(UserError, match=r"held-seed0-000000\.h5 is not of --also .*, nor of this policy; move it away"):
        collect(new)
    for fresh in (False, True):
        with pytest.raises(UserError, match="is --data itself"):
            collect(dataclasses.replace(new, data=tiny.data, fresh=fresh))
    assert len(names(tiny)) == 2
    collect(dataclasses.replace(new, fresh=True))
    shards = Rollouts(new.data / "rollouts", "doom").shards
    assert [shard.attributes["max_steps"] for shard in shards] == [9, 9, 10, 10]
    same = dataclasses.replace(tiny, data=tiny.data / "longer", also=tiny.data, episodes=7, max_steps=9)
    collect(same)  # the same policy and seed: its own shards are played, not linked
    collect(same)
    assert Rollouts(same.data / "rollouts", "doom").num_episodes == 7


def test_episodes_that_pay_nothing_are_given_up(tmp_path: Path) -> None:
    words = ["--env", "carracing", "--policy", "still", "--episodes", "2", "--shard-size", "2", "--max-steps", "60"]
    config = parse(CollectConfig, [*words, "--data", str(tmp_path), "--workers", "0", "--patience", "9"])
    collect(config)
    (shard,) = Rollouts(tmp_path / "rollouts", config.spec.label).shards
    rewards = [shard.episode(index).reward for index in range(2)]
    assert shard.truncated.all() and max(shard.lengths) < 60 and shard.attributes["patience"] == 9
    assert all((reward[-9:] <= 0).all() and reward[-10] > 0 for reward in rewards)
    with pytest.raises(UserError, match="was collected with --patience 9, not 0; give that again"):
        collect(dataclasses.replace(config, patience=0))


def test_dreams_begin_where_the_controller_was_that_played_last(
    world: World, goes_right: Path, tiny: CollectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(tiny)
    collect(dataclasses.replace(tiny, policy="still"))
    folder = tiny.data / "rollouts"
    assert len(Rollouts(folder, "doom").latest) == 4  # blind policies are one round, however many
    acts = dataclasses.replace(tiny, policy=str(goes_right / "controller/right"), noise=0.0, episodes=3)
    collect(acts)
    collect(dataclasses.replace(acts, episodes=5))  # the same goes on
    found = Rollouts(folder, "doom")
    assert [shard.attributes["round"] for shard in found.shards] == [2, 2, 2, 1, 1, 1, 1]
    assert found.latest == found.shards[:2]  # the third holds one episode, which is for tests
    met: list[list[EmbeddedEpisode]] = []
    monkeypatch.setattr(
        stage_3, "moments", lambda model, episodes, *more: met.append(episodes) or moments(model, episodes, *more)
    )
    here = tiny.data / "run"
    here.mkdir()
    (here / "vision").symlink_to(world.run / "vision")
    stage_3.train_memory(dataclasses.replace(world.memory, run=here, data=tiny.data, real_episodes=0))
    its, blind = met  # where dreams begin; where their ends are calibrated
    assert all((episode.action == 1).all() for episode in its)
    assert len(blind) == 4 and any((episode.action != 1).any() for episode in blind)


def test_returns_and_policy_are_on_record(world: World) -> None:
    shard = Rollouts(world.data / "rollouts", "doom").shards[0]
    assert shard.attributes["policy"] == "held" and shard.attributes["returns"] == shard.lengths.tolist()


def test_fresh_deletes_no_other_seeds_rollouts(tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "env": "doom",
        "data": tmp_path,
        "episodes": 2,
        "shard_size": 2,
        "max_steps": 5,
        "workers": 0,
    }
    for seed in (1, 17, 1_000_000):
        collect(CollectConfig(**common, seed=seed))
    others = [path for path in (tmp_path / "rollouts").iterdir() if "seed1000000" not in path.name]
    before = {path: path.stat().st_mtime_ns for path in others}
    collect(CollectConfig(**common, seed=1_000_000, fresh=True))
    assert len(others) == 2 and {path: path.stat().st_mtime_ns for path in others} == before
