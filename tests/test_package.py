"""What those get who install the package."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_holds_all_modules_and_says_that_they_are_typed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "worldmodels", source / "worldmodels", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("worldmodels-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "worldmodels").rglob("*.py")}
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "worldmodels/page/static").iterdir()}
    assert page and ours | page | {"worldmodels/py.typed"} <= held
