"""RUN/report.html: what stages say is on it, and nothing that leads out of it."""

import dataclasses
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import World
from worldmodels.core.errors import UserError
from worldmodels.core.report import Summary, summarise
from worldmodels.dreams.trust import odd_lengths
from worldmodels.settings.commands import CompareConfig, EvaluateConfig
from worldmodels.show import pages
from worldmodels.show.record import Record, read
from worldmodels.stages.collect import collect
from worldmodels.stages.compare import compare
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

LEADING = ("src", "href", "srcset", "poster", "style")


class Links(HTMLParser):
    """Whatever a page asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [
            value or "" for name, value in attributes if name in ("src", "href", "srcset", "poster", "style")
        ]
        assert not [name for name, _ in attributes if name.startswith("on")]


def is_alone(text: str) -> bool:
    """Whether a page is one file: no script, and only its own parts and what is in it are linked to."""
    found = Links(text)
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.S))
    assert not found.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert "url(" not in styles and "@import" not in styles
    return all(link.startswith(("data:image/png;base64,", "data:video/mp4;base64,", "#")) for link in found.links)


def cells(printed: str) -> set[str]:
    """What the tables hold that were printed."""
    lines = re.findall(r"^(?!─)(.*\S  +\S.*)$", printed, re.M)
    return {cell.strip() for line in lines for cell in re.split(r"  +", line) if cell.strip() and "/" not in cell}


def test_every_stage_writes_the_page_with_all_that_it_says(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """All five stages, in this process: the longest test of what they say."""
    place = {"run": tmp_path / "run", "data": tmp_path / "data"}
    controller = world.controller(**place, tau=(1.15,), generations=1, test_every=1)
    stages = [
        ("Rollouts", lambda: collect(dataclasses.replace(world.collect, **place))),
        ("V, which sees", lambda: train_vision(dataclasses.replace(world.vision, **place))),
        ("M, which expects", lambda: train_memory(dataclasses.replace(world.memory, **place))),
        ("C, which acts · tau1.15", lambda: train_controller(controller)),
        ("Scores · tau1.15", lambda: evaluate(EvaluateConfig(run=place["run"], episodes=2, workers=0, dream=True))),
    ]
    said: set[str] = set()
    for number, (title, stage) in enumerate(stages):
        stage()
        text = (place["run"] / "report.html").read_text()
        headings = [unescape(found) for found in re.findall(r"<h2[^>]*>(.*?)</h2>", text)]
        assert headings == [*(name for name, _ in stages[: number + 1]), "How to do it again"], title
        said |= cells(capsys.readouterr().out)
        shown = {unescape(found).strip() for found in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", text)}
        paths = {cell for cell in said - shown if Path(cell).suffix or cell in place_words}
        assert not said - shown - paths, (title, said - shown)
        assert is_alone(text)
    assert text.count("<video") == 3 and text.count("data:image/png") >= 6
    assert "worldmodels train-controller --env doom" in unescape(text)
    assert "Dream against reality" in text


place_words = {"rollouts", "report", "model", "codes", "pictures", "curves", "film", "plots", "plot", "video", "dream",
    "fitness", "reality", "note:"}  # fmt: skip


def record_of(path: Path, config: object, **more: object) -> Record:
    record = Record(path, "vision", config)
    record.table("A title", ("", "value"), [("held-out loss", Summary(1.5, 1.0, 0.25, 7))])
    return record


def test_a_strangers_record_runs_nothing_and_shows_no_other_files(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    record = record_of(tmp_path / "run/vision/vision.json", world.vision)
    record.table("<script>alert(1)</script>", ("", "<b>"), [("<img src=http://x>", '"><script>')])
    record.warn("<iframe src=http://x>")
    (tmp_path / "run/vision").mkdir(parents=True)
    (tmp_path / "run/vision/link.png").symlink_to(secret)
    for file in ("../../secret.png", str(secret), "link.png", "vision.json"):
        record.show(tmp_path / "run/vision/x.png", '" onload="x')
        record._shown[-1]["file"] = file
    record.save()
    text = pages.run_page(tmp_path / "run")
    assert is_alone(text) and "secret" not in text and "&lt;script&gt;alert(1)" in text and "data:" not in text


def test_a_damaged_record_is_told_of_and_left_out(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for stage in ("vision", "memory"):
        record_of(tmp_path / stage / f"{stage}.json", world.vision).save()
    path = tmp_path / "memory/memory.json"
    for content in ("{", "[]", "null", '{"stage": 3}', path.read_text().replace('"tables": [', '"tables": [3, ')):
        path.write_text(content)
        with pytest.raises(UserError, match=r"memory\.json"):
            read(path)
        assert "V, which sees" in pages.run_page(tmp_path)
        assert "the report leaves it out" in capsys.readouterr().out


def test_what_several_commands_warn_of_is_shown_once(world: World, tmp_path: Path) -> None:
    files = ("memory/memory.json", "controller/a/controller.json", "controller/b/controller.json")
    for file, warnings in zip(files, (["too kind"], ["too kind", "weak"], ["too kind", "weak"]), strict=True):
        record = record_of(tmp_path / file, world.vision)
        record.warn(*warnings)
        record.save()
    text = pages.run_page(tmp_path)
    assert re.findall(r'<p class="warn">([^<]*)</p>', text) == ["too kind", "weak (a, b)"]


def test_numbers_are_kept_in_full(world: World, tmp_path: Path) -> None:
    record_of(tmp_path / "vision.json", world.vision).save()
    row = json.loads((tmp_path / "vision.json").read_text())["tables"][0]["rows"][0]
    assert row == ["held-out loss", {"text": "1.5 ± 1.0", "mean": 1.5, "std": 1.0, "ci": 0.25, "n": 7}]


def test_only_what_luck_does_not_explain_is_warned_of() -> None:
    rng = np.random.default_rng(0)
    real, few = summarise(rng.normal(100, 10, 400)), summarise(rng.normal(150, 200, 3))
    kind, harsh, same = (summarise(rng.normal(mean, 10, 400)) for mean in (150, 50, 110))
    assert odd_lengths("sweep", kind, real).startswith(
        "this dream is too kind: sweep lives 1.50 times as long as really"
    )
    assert "too harsh" in odd_lengths("sweep", harsh, real)
    assert odd_lengths("sweep", same, real) == odd_lengths("sweep", few, real) == ""


def test_runs_are_compared(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, steps, mean in (("one", 6, 1.5), ("two", 8, 2.5)):
        record = Record(
            tmp_path / name / "vision/vision.json", "vision", dataclasses.replace(world.vision, steps=steps)
        )
        record.table("V", ("", "value"), [("held-out loss", Summary(mean, 1.0, 0.25, 7))])
        record.save()
    compare(CompareConfig(run=(tmp_path / "one", tmp_path / "two")))
    printed = capsys.readouterr().out
    assert re.search(r"steps +6 +8", printed) and not re.search(r"batch_size|seed", printed)
    assert re.search(r"held-out loss +1\.5 ± 0\.2 \(n 7\) +2\.5 ± 0\.2 \(n 7\)", printed)
    page = (tmp_path / "compare.html").read_text()
    assert is_alone(page) and "2.5 ± 0.2 (n 7)" in page
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds nothing"):
        compare(CompareConfig(run=(tmp_path / "one", tmp_path / "empty")))
