"""What goes on behind a page, without one."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.core.errors import UserError
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.page.contents import Contents, opened
from worldmodels.page.messages import PLANNING, Message
from worldmodels.page.session import Session
from worldmodels.settings.commands import PlayConfig
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import MDNRNNSettings, VAESettings

Begin = Callable[..., Session]


@pytest.fixture
def begin(contents: Contents) -> Iterator[Begin]:
    """Sessions, closed after the test."""
    begun: list[Session] = []

    def make(shown: Contents = contents, seed: int = 0) -> Session:
        begun.append(Session(shown, seed))
        return begun[-1]

    yield make
    for session in begun:
        session.close()


def ask(session: Session, do: str, **more: Any) -> list[Message]:
    return session.hear({"do": do, **more})


def immortal(contents: Contents) -> Contents:
    """The same, but M never expects the end."""
    model = models.load(contents.run)
    model.memory.settings = dataclasses.replace(model.memory.settings, termination=False)  # type: ignore[attr-defined]
    return dataclasses.replace(contents, model=model)


def played(session: Session, action: list[float], steps: int) -> Message:
    ask(session, "act", action=action)
    return [session.tick() for _ in range(steps)][-1][0]


def test_a_page_is_told_what_there_is(begin: Begin) -> None:
    hello, frame = begin().hello()
    assert hello.head["who"] == ["you", "right", PLANNING] and hello.head["dream"] and hello.head["real"]
    assert hello.head["keys"] == {"left": [-1], "right": [1]} and hello.head["rest"] == [0]
    assert hello.head["tau"]["value"] == 1.15 and hello.head["aspect"] == 1.6
    assert [episode["number"] for episode in hello.head["episodes"]] == [0, 1, 2]
    assert {name: picture.shape for name, picture in frame.pictures.items()} == {
        "dream": (64, 64, 3),
        "real": (100, 160, 3),
        "seen": (64, 64, 3),
    }
    assert frame.head["fresh"] and not frame.head["running"] and frame.head["notes"] == []


def test_both_worlds_do_what_the_hand_does(begin: Begin, contents: Contents) -> None:
    session = begin(immortal(contents))
    left = played(session, [-1], 12)
    ask(session, "begin", new=False)
    right = played(session, [1], 12)
    assert left.head["action"] == [-1] and right.head["action"] == [1]
    assert left.head["dream"]["steps"] == left.head["real"]["steps"] == 12
    assert left.head["real"]["paid"] == 12
    for world in ("dream", "real", "seen"):
        assert (left.pictures[world] != right.pictures[world]).any()
    ask(session, "begin", new=False)
    again = played(session, [-1], 12)  # the same beginning, the same luck, the same actions
    for world in ("dream", "real", "seen"):
        assert (again.pictures[world] == left.pictures[world]).all()
    (fresh,) = ask(session, "begin", new=True)
    assert fresh.head["fresh"] and fresh.head["dream"]["steps"] == 0


def test_temperature_changes_the_dream_and_not_reality(begin: Begin, contents: Contents) -> None:
    session = begin(immortal(contents))
    cold = []
    for tau in (0.05, 3.0):
        ask(session, "begin", new=False)
        ask(session, "tau", value=tau)
        cold.append(played(session, [0], 6))
    assert (cold[0].pictures["dream"] != cold[1].pictures["dream"]).any()
    assert (cold[0].pictures["real"] == cold[1].pictures["real"]).all()


def test_each_episode_can_be_dreamt_in_a_world_of_its_own(begin: Begin, contents: Contents) -> None:
    (told,) = ask(begin(), "world", value="new")
    assert told.kind == "trouble" and "has no world 'new', but own; others come of --dropout" in told.head["text"]
    assert begin().hello()[0].head["worlds"] == ["own"]
    stands_it = immortal(contents)
    assert stands_it.model
    stands_it.model.worlds = sum(stands_it.model.feat_sizes[part] for part in ("z", "h"))
    session = begin(stands_it)
    assert session.hello()[0].head["worlds"] == ["own", "new"]
    pictures = []
    for world in ("own", "new", "own", "new"):
        (fresh,) = ask(session, "world", value=world)
        assert fresh.head["fresh"] and fresh.head["dream"]["steps"] == 0
        pictures.append(played(session, [1], 6).pictures["dream"])
    assert (pictures[0] == pictures[2]).all() and (pictures[1] == pictures[3]).all()
    assert (pictures[0] != pictures[1]).any()


def test_a_member_of_an_ensemble_can_be_chosen(begin: Begin, pairs: dict[tuple[str, str], World]) -> None:
    session = begin(opened(PlayConfig(run=pairs["vae", "rssm"].run)))
    assert session.hello()[0].head["worlds"] == ["own", "new", "member 1", "member 2"]
    dream = session._dream
    assert dream
    for world, member in (("member 2", 1), ("member 1", 0)):
        (fresh,) = ask(session, "world", value=world)
        assert fresh.head["fresh"] and dream.state["member"].tolist() == [[member]]
    ask(session, "world", value="own")
    whose = set()
    for _ in range(12):
        ask(session, "begin", new=True)
        whose.add(float(dream.state["member"]))
    assert whose == {0, 1}
    (told,) = ask(session, "world", value="member 3")
    assert told.kind == "trouble" and "has no world 'member 3', but own, new, member 1, member 2;" in told.head["text"]


def test_a_controller_acts_until_you_do(begin: Begin, contents: Contents) -> None:
    session = begin(immortal(contents))
    (frame,) = ask(session, "who", name="right")
    assert frame.head["who"] == "right"
    assert played(session, [-1], 1).head["action"] == [1]
    ask(session, "who", name="you")
    assert played(session, [-1], 1).head["action"] == [-1]
    (told,) = ask(session, "who", name="nobody")
    assert told.kind == "trouble" and "nobody" in told.head["text"]


def test_planning_acts_alike_from_the_same_beginning_and_what_pays_nothing_is_not_planned_in(
    begin: Begin, contents: Contents
) -> None:
    session = begin(immortal(contents))
    ask(session, "who", name=PLANNING)
    first, again = [], []
    for actions in (first, again):
        ask(session, "begin", new=False)
        actions += [session.tick()[0].head["action"] for _ in range(4)]
    assert first == again and len({str(action) for action in first}) > 1
    unpaid = immortal(contents)
    unpaid.model.rewardless = True  # type: ignore[union-attr]
    session = begin(unpaid)
    assert session.hello()[0].head["who"] == ["you", "right"]
    (told,) = ask(session, "who", name=PLANNING)
    assert told.kind == "trouble"


def test_a_dream_ends_as_the_model_expects_and_another_begins(begin: Begin) -> None:
    session = begin()
    ask(session, "ends", value="sampled")
    ask(session, "run", on=True)
    for _ in range(300):
        message = session.tick()[0]
        if message.head["over"]:
            break
    assert message.head["dream"]["over"] == "the chance came up" and message.head["dream"]["end"] > 0
    assert not session.running and session.tick() == []
    (frame,) = ask(session, "run", on=True)
    assert not frame.head["running"]  # it is over
    (frame,) = ask(session, "begin", new=True)
    assert not frame.head["over"] and ask(session, "run", on=True)[0].head["running"]
    assert ask(session, "step")[0].head["dream"]["steps"] == 1 and not session.running


@pytest.mark.parametrize("episode", [0, 1])
def test_a_dream_sets_out_from_any_frame_and_reality_is_led_there(
    begin: Begin, contents: Contents, episode: int
) -> None:
    session = begin(immortal(contents))
    played(session, [1], 20)
    (strip,) = ask(session, "strip", episode=episode)
    assert strip.head["frames"][0] == 0 and strip.head["frames"][-1] == strip.head["length"] - 1
    assert len(strip.pictures) == len(strip.head["frames"]) == 16
    (peek,) = ask(session, "peek", episode=episode, frame=9)
    (frame,) = ask(session, "from", episode=episode, frame=9)
    assert frame.head["fresh"] and frame.head["real"]["steps"] == frame.head["dream"]["steps"] == 9
    assert frame.head["real"]["over"] == "" and frame.head["real"]["paid"] == 9
    assert (session._real.obs == peek.pictures["peek"]).all()  # type: ignore[union-attr]
    assert played(session, [0], 1).head["real"]["steps"] == 10


def test_what_cannot_be_asked_is_told_and_changes_nothing(begin: Begin) -> None:
    session = begin()
    for do, more in (("act", {"action": [0, 0]}), ("strip", {"episode": 9}), ("from", {"episode": 9, "frame": 1})):
        (told,) = ask(session, do, **more)
        assert told.kind == "trouble"
    assert session.tick()[0].head["action"] == [0]


def test_a_film_comes_as_mp4(begin: Begin, contents: Contents, tmp_path: Path) -> None:
    session = begin(immortal(contents))
    (frame,) = ask(session, "film", on=True)
    assert frame.head["filmed"] == 0
    assert played(session, [1], 7).head["filmed"] == 6
    film, frame = ask(session, "film", on=False)
    assert film.kind == "film" and frame.head["filmed"] is None
    (tmp_path / "x.mp4").write_bytes(film.film)
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "x.mp4"))
    assert frames == 7
    ask(session, "film", on=True)
    (told,) = ask(session, "film", on=False)
    assert told.kind == "trouble" and "nothing to show" in told.head["text"]


def test_without_m_there_is_reality_and_what_v_makes_of_it(
    begin: Begin, run: Path, world: World, tmp_path: Path
) -> None:
    (tmp_path / "vision").symlink_to(run / "vision")
    session = begin(opened(PlayConfig(run=tmp_path)))
    hello, frame = session.hello()
    assert not hello.head["dream"] and hello.head["who"] == ["you"] and set(frame.pictures) == {"real", "seen"}
    assert "no M yet" in frame.head["notes"][0]
    assert played(session, [1], 3).head["real"]["steps"] == 3


def test_without_the_environment_there_is_the_dream(begin: Begin, contents: Contents) -> None:
    session = begin(dataclasses.replace(immortal(contents), env=EnvSpec("Nowhere-v0"), shards=()))
    hello, frame = session.hello()
    assert not hello.head["real"] and set(frame.pictures) == {"dream"} and hello.head["episodes"] == []
    assert "Nowhere-v0 is unknown" in frame.head["notes"][0]
    assert played(session, [1], 3).head["dream"]["steps"] == 3


@pytest.mark.parametrize(
    ("env", "size", "keys"),
    [("carracing", 3, {"left", "right", "up", "down"}), ("dmc:cartpole-swingup", 1, {"left", "right"})],
)
def test_other_environments_have_keys_of_their_own(begin: Begin, env: str, size: int, keys: set[str]) -> None:
    vision = VAE(VAESettings(code_size=8)).eval()
    memory = MDNRNN(MDNRNNSettings(hidden_size=16, termination=False), 8, size)
    model = models.pair(vision, memory, torch.randn(2, vision.embed_size), precision="fp32")
    spec = EnvSpec(env, 2 if env.startswith("dmc") else 1)
    session = begin(Contents(Path("x"), spec, vision, model, {}, ()))
    hello, _ = session.hello()
    assert set(hello.head["keys"]) == keys and len(hello.head["rest"]) == size
    assert all(len(added) == size for added in hello.head["keys"].values())
    first, last = played(session, [1.0] * size, 1), played(session, [1.0] * size, 20)
    assert (first.pictures["real"] != last.pictures["real"]).any()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"run": Path("pretrained/doom")}, "there is no pretrained/doom here; name a run"),
        ({"run": Path("nowhere")}, "--run nowhere is not there"),
        ({"data": Path("nowhere")}, "--data nowhere holds no rollouts"),
        ({"run": Path()}, "vision/model.safetensors does not exist"),
    ],
)
def test_a_run_that_cannot_be_played_is_told(
    config: PlayConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Path], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told):
        opened(dataclasses.replace(config, **wrong))


def test_a_controllers_folder_is_a_run_with_that_controller(run: Path) -> None:
    shown = opened(PlayConfig(run=run / "controller/right"))
    assert shown.run == run.resolve() and list(shown.controllers) == ["right"]


def test_messages_are_heads_and_pixels() -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    packed = Message("film", {"a": 1}, {"x": picture}, b"mp4").packed()
    size = int.from_bytes(packed[:4], "little")
    assert b'"blobs": [{"name": "x", "height": 2, "width": 3}]' in packed[4 : 4 + size]
    assert packed[4 + size :] == b"".join(bytes([*pixel, 255]) for pixel in picture.reshape(-1, 3)) + b"mp4"
