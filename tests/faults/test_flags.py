"""Odd flags: each is told in one line that names it as it was typed, or is one that can be used."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import pytest

from worldmodels.commands import COMMANDS
from worldmodels.core.errors import UserError
from worldmodels.settings.flags import flag, names_of
from worldmodels.settings.models import OURS

DIGITS = "9" * 400
NUMBERS = ["-1", "0", "1e400", "-1e400", "nan", "inf", DIGITS, f"-{DIGITS}", "9" * 5000, "", "many", "½", "1,5", "0x10"]
TEXTS = ["", "..", "../../x", "a/b", "x" * 5000, "naïve☃", " ", "\x1b[2J", "-", "NUL", "~", "nan"]
NEEDED: dict[str, dict[str, str]] = {
    "evaluate": {"--run": "x"},
    "probe": {"--run": "x"},
    "pack": {"--run": "x", "--out": "y"},
    "export": {"--run": "x", "--web": "y"},
    "compare": {"--run": "x y"},
    "import-published": {"--source": "x", "--out": "y"},
}
"""What a command cannot do without."""
TOGETHER = [
    "collect --noise 0.5",
    "collect --policy held --noise 0.5",
    "collect --keys obs=frames",
    "collect --from x --policy held",
    "collect --from x --max-steps 100",
    "collect --from x --min-steps 100",
    "collect --env dmc:walker-walk --authors-pixels",
    "import-published x y --source z",
    "collect --distractor-videos x",
    "collect --distractor noise --distractor-videos x",
    "collect --distractor-colour",
    "collect --env dmc:walker-walk --distractor dcs --distractor-colour",
    "collect --env dmc:walker-walk --distractor dcs --dcs-parts colour --distractor-videos x",
    "collect --env dmc:walker-walk --dcs-intensity hard",
    "collect --env dmc:walker-walk --distractor dcs --dcs-intensity 0.1",
    "collect --env dmc:walker-walk --distractor dcs --dcs-parts colour sound",
    "collect --action-repeat 2",
    "collect --min-steps 9 --max-steps 8",
    "collect --shard-size 1",
    "collect --shard-size 1000000",
    "collect --episodes 1000000000",
    "train-vision --no-mask",
    "train-vision --vision hrssm --no-mask --mask-ratio 0.5",
    "train-vision --vision hrssm --mask-ratio 1",
    "train-vision --vision hrssm --kl-floor 1",
    "train-vision --vision rssm",
    "train-memory --memory vae",
    "train-memory --memory rssm --mixtures 3",
    "train-memory --mixtures 1000000",
    "train-memory --no-termination --termination-weight 3",
    "train-controller --tau 1",
    "train-controller --sample-end",
    "train-controller --no-sample-end",
    "train-controller --real-episodes 3",
    "train-controller --workers 0 --deadline 3",
    "train-controller --dream --tau 1 1.0000001",
    "train-controller --dream --tau 1 1",
    "train-controller --dream --tau 1 2 --name x",
    "train-controller --inputs z z",
    "train-controller --learner actor-critic",
    "train-controller --learner ppo --dream --episodes 3",
    "train-controller --learner actor-critic --dream --episodes 3",
    "train-controller --learner ppo --rows 3",
    "train-controller --learner ppo --decisions 3",
    "train-controller --learner ppo --tau 1",
    "train-controller --learner ppo --horizon 10",
    "train-controller --dream --patience 3",
    "train-controller --patience -1",
    "train-controller --updates 5",
    "train-controller --learner actor-critic --dream --pop-size 8",
    "train-controller --learner actor-critic --dream --generations 8",
    "train-controller --pop-size 1000000000",
    "train-controller --test-episodes 1000000000",
    "evaluate --run x --tau 1",
    "evaluate --run x --no-dream --tau 1",
    "evaluate --run x --plan-horizon 3",
    "evaluate --run x --plan none --plan-tau 1",
    "evaluate --run x --plan mppi --plan-elites 0.5",
    "evaluate --run x --plan cem --plan-softness 0.5",
    "evaluate --run x --plan cem --plan-candidates 3",
    "evaluate --run x --plan cem --plan-elites 2",
    "evaluate --run x --plan cem --dream",
    "evaluate --run x --plan cem --device cuda",
    "evaluate --run x --plan guess",
    "probe --run x x",
    "probe --run x --episodes 7",
    "compare --run x x",
    "compare --run x",
    "run --steps 3",
    "run --vision.sedd 3",
    "run --no-such.seed 3",
    "run --vision.seed 3",
    "run --evaluate.tau 1",
    "run --vision hrssm --vision.mask-ratio 1",
]
"""Flags that mean nothing without each other, or exclude each other: each of these lines is refused."""


class Case(NamedTuple):
    """A command line, and the flag in it that is odd."""

    command: str
    words: tuple[str, ...]
    odd: str


def fields_of(command: str) -> list[tuple[str, Any]]:
    """Every flag of a command and its type, those of all models that it can train included."""
    kind = COMMANDS[command].config
    parts = [kind, *(model.settings for model in OURS.values() if model.stage == getattr(kind, "MODEL", ""))]
    hints = {name: get_type_hints(part)[name] for part in parts for name in names_of(part) if name != "model"}
    return [(flag(name), hint) for name, hint in hints.items()]


def with_model(command: str, word: str) -> list[str]:
    """What has to be typed so that a command has the flag `word`."""
    stage = getattr(COMMANDS[command].config, "MODEL", "")
    for name, model in OURS.items():
        if model.stage == stage and word in map(flag, names_of(model.settings)):
            return [f"--{stage}", name, *(["--dream"] if stage == "learner" else [])]
    return []


def odd_values(hint: Any) -> list[list[str]]:
    """What follows a flag of this type, and is odd."""
    if hint is bool:
        return [["true"], ["0"], ["yes", "no"]]
    several = get_origin(hint) is tuple
    inner = get_args(hint)[0] if several else hint
    numeric = inner in (int, float) or float in get_args(inner)
    single = [[value] for value in (NUMBERS if numeric else TEXTS)]
    return [[], *single, ["1", "1"], ["1", ""]] if several else [[], *single, ["1", "2"]]


def cases() -> Iterator[Case]:
    for command in COMMANDS:
        needed = NEEDED.get(command, {})
        given = [part for word, values in needed.items() for part in (word, *values.split())]
        for word, hint in fields_of(command):
            others = [part for each in needed.items() if each[0] != word for part in " ".join(each).split()]
            before = [*with_model(command, word), *others]
            for values in odd_values(hint):
                yield Case(command, (*before, word, *values), word)
            near = word[:-1] + "q"
            yield Case(command, (*before, near, "1"), near)
            yield Case(command, (*before, f"--no-{word[2:]}", "x"), f"--no-{word[2:]}")
            yield Case(command, (*before, f"{word}="), word)
        for stray in ("x", "-x", "--", "-", "5", "—episodes"):
            yield Case(command, (stray, *given), stray)


def outcome(case: Case) -> str:
    """What came of it: told, or usable."""
    try:
        COMMANDS[case.command].read(list(case.words))
    except UserError as error:
        said = str(error)
        assert "\n" not in said and len(said) < 1500, case
        assert case.odd in said, (case, said)
        return "told"
    return "usable"


def test_every_odd_value_is_told_or_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tried = list(cases())
    results = [(case, outcome(case)) for case in tried]
    counted = Counter(result for _, result in results)
    print(f"flags: {len(tried)} tried, {counted['told']} told, {counted['usable']} usable")
    assert len(set(tried)) >= 300 and counted["told"] > counted["usable"] > 0
    assert not list(tmp_path.iterdir())  # and parsing makes nothing
    numbers = {case.words[-1] for case, result in results if result == "usable" and case.words[-1] in NUMBERS}
    assert numbers <= {"0", "nan", "", "1e400", *TEXTS}, numbers


@pytest.mark.parametrize("line", TOGETHER)
def test_flags_that_mean_nothing_together_are_refused(line: str) -> None:
    command, *words = line.split()
    with pytest.raises(UserError) as error:
        COMMANDS[command].read(words)
    typed = [word for word in words if word.startswith("--")]
    assert any(word in str(error.value) for word in typed) and "\n" not in str(error.value), error.value


SLOW = [
    line if line.split()[0] in NEEDED else f"{line} --dry-run"
    for line in (
        *TOGETHER,
        "collect --episodes 1000000",
        "collect --max-steps 10000000",
        "collect --seed 9223372036854775807",
        "collect --env ..",
        "collect --env ../../x",
        "collect --env dooom",
        "collect --env naïve☃",
        "collect --data /dev/null",
        "collect --data /proc/x",
        "collect --policy ..",
        "collect --ray nowhere",
        "collect --workers 0",
        "collect --shard-size 10000",
        "train-vision --steps 1000000000 --batch-size 2",
        "train-vision --device gpu",
        "train-vision --device cuda:99",
        "train-vision --precision fp16",
        "train-vision --run /dev/null --batch-size 2",
        "train-vision --learning-rate 1e300 --batch-size 2",
        "train-memory --mixtures 100 --batch-size 2 --sequence-length 4",
        "train-memory --memory nothing:X",
        "train-memory --memory :",
        "train-controller --preset huge",
        "train-controller --inputs proj",
        "train-controller --dream --tau 1e400",
        "train-controller --test-episodes 1000000 --max-steps 5",
        "train-controller --dream --pop-size 100000 --max-steps 5",
        "train-controller --dream --episodes 100000 --max-steps 5",
        "train-controller --hidden-size 65536 --max-steps 5 --lockstep 1",
        "evaluate --run ..",
        "evaluate --run /dev/null",
        "evaluate --run x --ray nowhere",
        "probe --run",
        "probe --run x y z",
        "play",
        "play nowhere",
        "play x y",
        "play --port 70000",
        "play --port -1",
        "play --host nowhere.example",
        "export",
        "export nowhere --web dream",
        "export x --onnx model.onnx",
        "export .. --web /dev/null",
    )
]
LONGEST = 20  # seconds


@pytest.mark.slow
@pytest.mark.timeout(60 + LONGEST)
@pytest.mark.parametrize("line", SLOW)
def test_a_real_command_ends_soon_and_in_one_line(tmp_path: Path, line: str) -> None:
    environment = os.environ | {"MPLBACKEND": "Agg"}
    command = [sys.executable, "-m", "worldmodels", *line.split()]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST, env=environment, check=False
    )
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        errors = [said for said in done.stderr.splitlines() if said.startswith("error: ")]
        assert len(errors) == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir()), json.dumps([str(path) for path in tmp_path.rglob("*")])
