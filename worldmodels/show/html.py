"""Pieces of pages: each is one file without outside links, for wide screens and phones, by day and by night."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from worldmodels.core import files
from worldmodels.core.errors import UserError
from worldmodels.show.video import small

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #656d76; --paper: #fff; --card: #f6f8fa; --line: #d8dee4;
  --accent: #0969da; --warn-ink: #6b4700; --warn: #fff4d6; --warn-line: #d4a72c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --paper: #0d1117; --card: #161b22;
  --line: #30363d; --accent: #6cb0ff; --warn-ink: #f2cc60; --warn: #2b2410; --warn-line: #7a5b00 }
  img.plot { filter: invert(.93) hue-rotate(180deg) } img.photo { filter: brightness(.9) } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; -webkit-text-size-adjust: 100% }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem }
p { margin: .5rem 0 } .faint { color: var(--faint) } a { color: var(--accent) }
nav { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1rem 0 }
nav a { padding: .2rem .7rem; border: 1px solid var(--line); border-radius: 2rem; text-decoration: none;
  font-size: .9rem }
.warn { margin: .75rem 0; padding: .7rem 1rem; border-left: 4px solid var(--warn-line); border-radius: 4px;
  background: var(--warn); color: var(--warn-ink) }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0 }
.card { flex: 1 1 15rem; padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px }
.card b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums }
.card span { color: var(--faint); font-size: .88rem }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; margin: .5rem 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem }
th, td { padding: .35rem .9rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { color: var(--faint); font-weight: 500 }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 9rem }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere }
tr.ours td { font-weight: 600 } tr.group td { color: var(--faint); font-weight: 600; padding-top: 1rem }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1.25rem;
  align-items: start; margin: 1rem 0 }
figure { margin: 0; padding: .75rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  min-width: 0 }
figure .wide { margin: 0 } figure.broad { grid-column: 1 / -1 }
figure img, video { display: block; width: 100%; height: auto; border-radius: 4px } img { background: #fff }
video { background: #000; max-height: 26rem }
figcaption { margin-top: .5rem; color: var(--faint); font-size: .88rem; overflow-wrap: anywhere }
pre { margin: .5rem 0; padding: .9rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; overflow-x: auto; font: .85rem/1.6 ui-monospace, monospace }
details { margin: 1rem 0 } summary { cursor: pointer; color: var(--faint) }
@media (max-width: 40rem) { body { padding: 1rem .9rem 3rem } h1 { font-size: 1.4rem } table { font-size: .8rem }
  th, td { padding: .3rem .4rem; white-space: normal } th:first-child, td:first-child { min-width: 6.5rem }
  figure.broad img { width: auto; max-width: none; height: 15rem } }
"""
WIDER = 2.2  # a picture whose width is more than so many times its height gets a line of its own
TYPES = {".png": "image/png", ".mp4": "video/mp4"}


def page(title: str, body: Iterable[str]) -> str:
    """A page of its own."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{escaped(title)}</title><style>{STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(body)}\n</body></html>\n"
    )


def escaped(text: object) -> str:
    """Text, whatever it holds, as it is to be read."""
    return html.escape(str(text))


def tag(name: str, text: object, **attributes: str) -> str:
    """An element that holds text; `class_` for class."""
    told = "".join(f' {key.rstrip("_")}="{escaped(value)}"' for key, value in attributes.items())
    return f"<{name}{told}>{escaped(text)}</{name}>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], ours: str = "our ", texts: bool = False) -> str:
    """A table; rows of one cell are headings within it.

    Args:
        header: of the columns.
        rows: their cells.
        ours: what the name of a row begins with that is to be seen first.
        texts: whether cells are words, not numbers.
    """
    lines = [f"<tr>{''.join(tag('th', cell) for cell in header)}</tr>"]
    for row in rows:
        if len(row) == 1:
            lines.append(f'<tr class="group"><td colspan="{len(header)}">{escaped(row[0])}</td></tr>')
            continue
        kind = ' class="ours"' if str(row[0]).startswith(ours) else ""
        rest = "".join(tag("td", cell, **({"class_": "text"} if texts else {})) for cell in row[1:])
        lines.append(f"<tr{kind}>{tag('td', row[0])}{rest}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


class Shown(NamedTuple):
    """A picture or film, and what it shows; a plot, if black on white."""

    path: Path
    caption: str
    plot: bool


def figures(pictures: Iterable[Shown]) -> str:
    """Pictures and films with their captions, inlined; those that are not there are left out."""
    shown = [_figure(*one) for one in pictures if one.path.is_file()]
    return f'<div class="figures">{"".join(shown)}</div>' if shown else ""


def data_uri(content: bytes, suffix: str) -> str:
    """A file's content as an address that needs no file."""
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(content).decode()}"


def _figure(path: Path, caption: str, plot: bool) -> str:
    told = tag("figcaption", caption)
    try:
        content = small(path) if path.suffix == ".mp4" else files.read_bytes(path)
    except UserError as error:
        return f"<figure>{tag('p', error, class_='faint')}{told}</figure>"
    source = data_uri(content, path.suffix)
    if path.suffix == ".mp4":
        return (
            f'<figure><video controls loop muted playsinline preload="metadata" src="{source}"></video>{told}</figure>'
        )
    broad = ' class="broad"' if _ratio(content) > WIDER else ""
    image = f'<img class="{"plot" if plot else "photo"}" alt="{escaped(caption)}" src="{source}">'
    return f'<figure{broad}><div class="wide">{image}</div>{told}</figure>'


def _ratio(png: bytes) -> float:
    """Width over height, as the first chunk of a PNG tells them."""
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    return width / height if height else 1.0


def settings(values: dict[str, Any]) -> str:
    """Settings as a table that is folded away."""
    rows = [(name, said(value)) for name, value in values.items()]
    return f"<details><summary>settings</summary>{table(('', ''), rows, texts=True)}</details>"


def said(value: Any) -> str:
    """A setting as it is typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
