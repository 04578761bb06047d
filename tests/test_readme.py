"""What README says, works."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMANDS
from worldmodels.commands import COMMANDS as OURS
from worldmodels.settings.command_line import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def command(script: str) -> str:
    """pipelines/01_collect.py -> 01_collect."""
    return script.removesuffix(".py").split("/")[-1]


def read(script: str, flags: list[str]) -> Any:
    """What a command makes of its flags."""
    return OURS[script].read(flags) if script in OURS else parse(COMMANDS[command(script)], flags)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_its_commands_parse() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith(("python ", "worldmodels "))]
    assert len(commands) == 14
    for line in commands:
        _, script, *flags = shlex.split(line.replace("worldmodels ", "python "), comments=True)
        assert (ROOT / script).exists() or script in OURS
        read(script, flags)


@pytest.mark.parametrize(("target", "commands"), [("play", 1), ("demo", 1), ("test", 0)])
def test_its_make_targets_exist_and_call_what_exists(target: str, commands: int) -> None:
    assert f"make {target}" in README
    plan = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    plan = plan.replace("\\\n", "")
    lines = [line for line in plan.splitlines() if "pipelines/" in line or "-m worldmodels" in line]
    assert len(lines) == commands and ("-m pytest" in plan) == (target == "test")
    for line in lines:
        words = shlex.split(line.replace("-m worldmodels ", ""))
        asked = read(words[1], words[2:])
        assert target == "demo" or (ROOT / asked.run).is_dir()
        assert target == "play" or [part.stage for part in asked.parts] == [
            "collect",
            "vision",
            "memory",
            "controller",
            "evaluate",
        ]


def test_its_python_runs(goes_right: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    acts, dreams = (code.replace('"runs/doom"', repr(str(goes_right))) for code in blocks("python"))
    exec(acts, {})
    assert (tmp_path / "doom.mp4").stat().st_size > 1000
    names: dict = {}
    exec(dreams, names)
    obs, _ = names["dream"].reset(seed=0)
    assert obs.shape == (16, 24)
    seen, _ = names["real"].reset(seed=0)
    assert names["real"].observation_space.contains(seen)
    names["real"].close()


def test_its_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_functions_named_in_the_docs_exist() -> None:
    text = (ROOT / "docs/papers_in_code.md").read_text()
    found = re.findall(r"`((?:\w+/)*\w+\.py): ([\w., ]+)`", text)
    assert len(found) > 20
    for path, names in found:
        source = (ROOT / "worldmodels" / path).read_text()
        for name in re.split(r", ", names):
            last = name.split(".")[-1]
            assert re.search(rf"(def|class) {last}\b", source), f"{path} has no {name}"


def test_facts_that_the_code_cites_are_in_the_docs() -> None:
    cited = 0
    for page in ("CLASSIC", "HRSSM"):
        headings = set(re.findall(r"^#+ ([\d.]+?)\.? ", (ROOT / f"docs/{page}.md").read_text(), re.M))
        for path in [*(ROOT / "worldmodels").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
            for section in re.findall(rf"{page}(?: sections?)? (\d+(?:\.\d+)?)\b", path.read_text()):
                assert section in headings, f"{path.name} cites {page} {section}"
                cited += 1
    assert cited > 40
