"""A V and an M of the user's own, a file each: examples/own_vision.py and own_memory.py (docs/add_a_model.md)."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from tests.training.test_train import metrics
from worldmodels import models
from worldmodels.core.errors import UserError
from worldmodels.settings import models as known
from worldmodels.settings.command_line import parse
from worldmodels.settings.commands import EvaluateConfig, ProbeConfig
from worldmodels.settings.stages import MemoryConfig, VisionConfig
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.probe import probe
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OURS = ("own_vision", "own_memory")
TINY = "--preset tiny --workers 0 --steps 4 --batch-size 4 --save-every 2"
V = f"{TINY} --vision own_vision:MyV --side 8"
M = f"{TINY} --memory own_memory:MyM --units 16 --plugin own_vision"
SEARCH = "--generations 1 --pop-size 4 --episodes 1 --max-steps 20 --test-episodes 2 --final-episodes 2 --dream"


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page's commands make."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "data").mkdir()
    (folder / "data/doom").symlink_to(world.data)
    command(folder, f"train-vision {V}")
    command(folder, f"train-memory {M}")
    command(
        folder, f"train-controller --preset tiny --workers 2 {SEARCH} --real-episodes 2 --plugin own_vision own_memory"
    )
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In that folder, in a process that was told of nothing yet."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(home)
    yield home
    for name in OURS:
        sys.modules.pop(name, None)


def command(folder: Path, words: str) -> str:
    """What a command prints, as a user runs it."""
    path = os.pathsep.join([str(EXAMPLES), str(ROOT)])
    finished = subprocess.run(
        [sys.executable, "-m", "worldmodels", *words.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "Agg"},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_its_controller_is_scored_by_workers_that_import_it_too(home: Path) -> None:
    scores = command(
        home, "evaluate --run runs/doom --episodes 2 --workers 2 --dream --plugin own_vision own_memory --no-video"
    )
    assert re.search(r"our controller in the real doom +[\d.]+", scores)


def test_its_flags_are_flags_of_the_command(here: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse(VisionConfig, ["--vision", "own_vision:MyV", "--help"])
    text = capsys.readouterr().out
    assert "--side INT" in text and "Pixels along each side" in text and "--kl-floor" not in text
    config = parse(VisionConfig, ["--vision", "own_vision:MyV", "--preset", "tiny"])
    assert (config.model.code_size, config.steps, config.batch_size) == (8, 300, 32)  # its presets, over the stage's


def test_it_is_opened_again_as_it_was_and_gone_on_with(here: Path) -> None:
    before = metrics(here / "runs/doom/vision"), metrics(here / "runs/doom/memory")
    train_vision(parse(VisionConfig, V.split()))
    train_memory(parse(MemoryConfig, M.split()))
    assert (metrics(here / "runs/doom/vision"), metrics(here / "runs/doom/memory")) == before
    model = models.load(here / "runs/doom")
    assert model.feat_sizes == {"z": 8} and model.memory.settings.units == 16 and model.vision.settings.side == 8
    with pytest.raises(UserError, match="was begun with --side 8, not 16"):
        train_vision(parse(VisionConfig, [*V.split(), "--side", "16"]))


def test_a_run_that_names_it_imports_nothing_and_says_what_to_type(here: Path) -> None:
    run = Path("runs/doom")
    told = r"vision/model\.safetensors: own_vision:MyV is code that is not ours, .*: add --plugin own_vision$"
    with pytest.raises(UserError, match=told):
        evaluate(EvaluateConfig(run=run, workers=0))
    with pytest.raises(UserError, match=told):
        probe(ProbeConfig(run=(run,), episodes=8, workers=0))
    with pytest.raises(UserError, match=told):
        train_memory(parse(MemoryConfig, TINY.split()))
    assert not set(OURS) & set(sys.modules)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (VisionConfig, "--vision own_vision:Mine", "--vision own_vision:Mine: there is no Mine in own_vision"),
        (MemoryConfig, "--memory own_vision:MyV", "its __init__ must take `settings`, of a dataclass that is a Memory"),
        (VisionConfig, "--vision own_vision:F", "its __init__ must take `settings`"),
        (VisionConfig, "--vision own_vision:MyV --kl-flor 1", "--kl-flor is not a flag of this command"),
        (VisionConfig, "--vision own_vision:MyV --kl-floor 1", "--kl-floor does nothing without --vision vae"),
        (VisionConfig, "--vision own_vision:MyV --side 0", "--side 0 makes no sense; give more than 0"),
        (VisionConfig, "--vision not_there:MyV", "not_there cannot be imported: there is no not_there; install it"),
        (VisionConfig, "--vision :MyV", "'' is not the name of a module"),
        (VisionConfig, "--vision own_vision.not_there:MyV", "there is no own_vision.not_there; install it"),
        (EvaluateConfig, "--run x --plugin not_there", "not_there cannot be imported"),
        (VisionConfig, "--vision vea", "--vision vea is unknown; did you mean vae? known: hrssm, vae; or one of your"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(here: Path, kind: type, words: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(kind, words.split())
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_m_is_no_v(here: Path) -> None:
    config = parse(VisionConfig, ["--vision", "own_memory:MyM", "--run", "elsewhere"])
    with pytest.raises(UserError, match=r"--vision own_memory:MyM is no Vision of worldmodels\.models\.base"):
        train_vision(config)
    with pytest.raises(UserError, match="--vision vae has settings of its own, VAESettings, not MyMSettings"):
        VisionConfig(model=config.model)


def test_a_setting_that_the_stage_has_too_is_refused(here: Path) -> None:
    (here / "other_package.py").write_text(
        "from own_vision import *\n\n\n@dataclass(frozen=True, kw_only=True)\nclass Both(ModelSettings):\n"
        "    steps: int = 3\n\n\nclass Other(MyV):\n    def __init__(self, settings: Both) -> None: ...\n"
    )
    with pytest.raises(UserError, match="other_package:Other: its setting steps is one that the stage has too"):
        parse(VisionConfig, ["--vision", "other_package:Other"])


def test_ours_are_known_without_torch() -> None:
    code = "import sys, worldmodels.settings.models as m; m.named('hrssm', 'vision'); print('torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"


LEARNERS = [name for name, ours in known.OURS.items() if ours.stage == "learner"]


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_are_called_by_their_names(name: str) -> None:
    assert known.name_of(known.OURS[name].load()) == name


@pytest.mark.parametrize("name", [name for name in known.OURS if name not in LEARNERS])
def test_ours_are_called_by_their_names(name: str) -> None:
    cls = models.class_of(name, known.OURS[name].stage)
    assert known.name_of(cls) == name and known._settings_of(cls, name, known.OURS[name].stage) is (
        known.OURS[name].settings
    )
