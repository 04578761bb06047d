"""The shape of the package: what stands where, and who may import whom."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import worldmodels
from worldmodels.settings.environments import records

PACKAGE = Path(worldmodels.__file__).parent
DESIGN = (PACKAGE.parent / "docs/design.md").read_text()
HOUSE = DESIGN[DESIGN.index("## The house") : DESIGN.index("## Randomness")]


def imports(path: Path) -> Iterator[str]:
    """What a file of ours imports from the package, as dotted names without the package's own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("worldmodels"):
            module = (node.module or "").removeprefix("worldmodels").removeprefix(".")
            yield from ([module] if module else [alias.name for alias in node.names])


def test_a_package_imports_only_what_comes_before_it() -> None:
    """Data flows one way: the order of the house, which docs/design.md tells and this test keeps."""
    order = re.findall(r"^    (\w+)/", HOUSE, re.M)
    assert set(order) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")} and len(set(order)) == len(order)
    for path in PACKAGE.glob("*/**/*.py"):
        own = path.relative_to(PACKAGE).parts[0]
        for name in imports(path):
            other = name.split(".")[0]
            assert order.index(other) <= order.index(own), f"{path} imports {name}, which comes later"


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Within a package too: importing any file first works."""
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    wanted = {name: {other for other in imports(path) if other in files} for name, path in files.items()}
    done: set[str] = set()
    while ready := {name for name, others in wanted.items() if name not in done and others <= done}:
        done |= ready
    assert done == set(files), f"a circle among {sorted(set(files) - done)}"


def test_the_page_tells_of_every_file() -> None:
    for package in PACKAGE.glob("*/__init__.py"):
        told = HOUSE[HOUSE.index(f"    {package.parent.name}/") :]
        for path in package.parent.glob("*.py"):
            assert path.stem == "__init__" or re.search(rf"\b{path.stem}\b", told), f"{path} is not told of"


def test_the_picture_shows_the_code_as_it_is() -> None:
    """Drawn anew by `python docs/architecture.py`."""
    drawing = runpy.run_path(str(PACKAGE.parent / "docs/architecture.py"))
    assert drawing["draw"](PACKAGE) == drawing["PICTURE"].read_text()


def test_downstream_never_names_a_model_family() -> None:
    for name in (
        "acting/controller_spec.py", "acting/agents.py", "acting/controller.py", "dreams/dream.py",
        "dreams/dream_env.py", "dreams/latent_env.py", "dreams/spaces.py",
        "dreams/planning.py", "dreams/planning_agent.py",
        "evolution/evaluators.py", "stages/evaluate.py", "stages/train_controller.py",
        "stages/learning.py", "evolution/learner.py",
    ):  # fmt: skip
        text = (PACKAGE / name).read_text().lower()
        for family in ("vae", "mdn", "rssm"):
            assert family not in text, f"{name} names {family}"


def test_only_its_record_tells_what_is_special_about_an_environment() -> None:
    """Nothing else asks for an environment by its name, but for the default of --env."""
    ours = {record.name for record in records()}
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "environments":
            continue
        values = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        named = [value for value in values if isinstance(value, str) and value in ours]
        assert named == (["doom"] if path.name == "shared.py" else []), path


def test_only_one_file_imports_what_a_person_named() -> None:
    """A name that stands in a file must lead to no import: whoever imports by name is known here."""
    importers = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "import_module" in path.read_text()
    }
    assert importers == {
        "__init__.py",
        "commands.py",
        "core/plugins.py",
        "envs/__init__.py",
        "settings/models/__init__.py",
    }


def test_pipelines_are_thin() -> None:
    for path in (PACKAGE.parent / "pipelines").glob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) and len(path.read_text().splitlines()) < 20
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
