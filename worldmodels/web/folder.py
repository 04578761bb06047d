"""The folder that is handed on: graphs, what a dream takes beside them, and the page.

    dream.json         what the dream is of, what its page has to turn and to press, and how codes are drawn
    dream.safetensors  where dreams begin (starts.*, moments.*), and the numbers of controllers (controller.*)
    *.onnx             encoder, decoder, memory, and for an RSSM heads
    README.md          what all this is, for whoever finds it

With the page come the files of `worldmodels play`'s own page, but for line.js: here that leads to static/session.js
instead of to a server; and onnxruntime-web, from runtime/.
"""

import json
from pathlib import Path
from typing import Any

from worldmodels.core import files
from worldmodels.core.errors import UserError

HERE = Path(__file__).parent
PAGE = HERE.parent / "page/static"
MANIFEST = "dream.json"
TENSORS = "dream.safetensors"
SCRIPT = '<script type="module" src="main.js"></script>'
README = """# The dream of {run} ({env})

A world model as files that need no Python: V's encoder and decoder and M as ONNX (float32, any number of rows), and in
dream.safetensors where its dreams begin and what its controllers are made of. dream.json tells the rest.
{page}
Made by `worldmodels export` (docs/web.md there says how a step is made of these files).
"""
ON_A_PAGE = """
    python -m http.server

in this folder, or any other server of files, and http://localhost:8000/ is the dream as a page; it loads nothing from
elsewhere. onnxruntime.js and onnxruntime.wasm.gz are ONNX Runtime's (Microsoft, MIT license: onnxruntime.LICENSE.txt).
"""


def page() -> dict[str, bytes]:
    """The page's files, by name, and the runtime's."""
    found = {path.name: path.read_bytes() for folder in (PAGE, HERE / "static") for path in sorted(folder.iterdir())}
    found |= {path.name: path.read_bytes() for path in sorted((HERE / "runtime").glob("onnxruntime.*"))}
    index = found["index.html"].decode()
    found["index.html"] = index.replace(SCRIPT, f'<script src="unserved.js"></script>\n{SCRIPT}').encode()
    return found


def check_free(flag: str, folder: Path) -> None:
    """Raises UserError naming `flag`, if the folder cannot be written or holds something else than an export."""
    if folder.suffix == ".onnx" or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{flag} {folder} is to be a folder, for an export is several files; give a folder's name")
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise UserError(f"{flag} {folder} holds something else than an export; give another folder")
    files.check_writable(folder)


def write(folder: Path, manifest: dict[str, Any], parts: dict[str, bytes], with_page: bool) -> dict[str, int]:
    """Writes an export, dream.json last, so that a folder which has it is whole. Returns the files' sizes in bytes."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for former in folder.glob("*.onnx"):
        former.unlink()
    about = README.format(run=manifest["run"], env=manifest["env"], page=ON_A_PAGE if with_page else "")
    whole = parts | (page() if with_page else {}) | {"README.md": about.encode()}
    sizes = {name: len(content) for name, content in parts.items()}
    if with_page:
        sizes["onnxruntime.wasm.gz"] = len(whole["onnxruntime.wasm.gz"])
    whole[MANIFEST] = (json.dumps(manifest | {"sizes": sizes}, indent=1, allow_nan=False) + "\n").encode()
    for name, content in whole.items():
        files.write_bytes(folder / name, content)
    return {name: len(content) for name, content in whole.items()}
