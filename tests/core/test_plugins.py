import sys
from pathlib import Path

import pytest

from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.workers.local import Workers


def modules_of(task: int) -> tuple[tuple[str, ...], bool]:
    return plugins.typed(), "worn_by_workers" in sys.modules


def test_what_was_typed_goes_along_with_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worn_by_workers.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with Workers(1) as workers:
        ((typed, there),) = workers.map(modules_of, [0])
        assert typed == plugins.typed() and not there
        plugins.use("worn_by_workers")  # which the worker lives to learn of
        ((typed, there),) = workers.map(modules_of, [0])
        assert "worn_by_workers" in typed and there


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("never_written", None, "never_written cannot be imported: there is no never_written; install it, or give"),
        ("needs_more", "import never_written", "needs_more cannot be imported: there is no never_written; install it"),
        ("raises", "\n1 / 0", r"raises cannot be imported: ZeroDivisionError: division by zero \(raises.py:2\)"),
        ("not-a.module", None, "'not-a.module' is not the name of a module"),
        (".relative", None, "'.relative' is not the name of a module"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    name: str, text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text:
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        plugins.use(name)
    assert "\n" not in str(error.value) and name not in plugins.typed()


def test_being_imported_by_someone_else_is_not_to_be_typed() -> None:
    assert "subprocess" in sys.modules
    with pytest.raises(
        UserError, match=r"^here names subprocess:X, which is code that is not ours.*--plugin subprocess$"
    ):
        plugins.refuse_untyped("subprocess", "subprocess:X", "here")
