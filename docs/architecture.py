"""Draws docs/architecture.svg from the code's own imports: `python docs/architecture.py`. A test holds it to the code.

A package stands below all that it imports. Of the arrows only those are drawn that no way over others makes needless.
"""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/architecture.svg"
WIDTH = 940
GAP = 22
BOX_WIDTH = 218
BOX_HEIGHT = 98
ROW = BOX_HEIGHT + 34
HEAD = BOX_HEIGHT + 2 * GAP  # of the two packages that all others stand on
FOUNDATION = ("core", "settings")
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .name { font-weight: 600; font-size: 15px }
  .files { fill: #57606a; font-size: 11px }
  rect { fill: #f6f8fa; stroke: #8c959f; rx: 6 }
  path { fill: none; stroke: #8c959f; stroke-width: 1.3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .files { fill: #9da7b1 } rect { fill: #161b22; stroke: #6e7681 } path { stroke: #6e7681 }
  }
"""
Imports = dict[str, set[str]]
"""By package, what it imports of the others."""


def imports_between_packages(root: Path) -> Imports:
    """Who imports whom, of the packages in `root`."""
    packages = sorted(path.parent.name for path in root.glob("*/__init__.py"))
    return {package: set(_imported(root / package)) & set(packages) - {package} for package in packages}


def without_detours(imports: Imports) -> Imports:
    """The arrows that are left when those go that a longer way makes needless."""
    return {
        package: {other for other in wanted if not any(other in _reached(imports, via) for via in wanted - {other})}
        for package, wanted in imports.items()
    }


def rows(imports: Imports) -> list[list[str]]:
    """Packages in rows, each as low as what imports it allows."""
    height: dict[str, int] = {}
    while len(height) < len(imports):
        for package in imports:
            users = [other for other, wanted in imports.items() if package in wanted]
            if package not in height and all(user in height for user in users):
                height[package] = max((height[user] + 1 for user in users), default=0)
    return [sorted(p for p in imports if height[p] == row) for row in range(max(height.values()), -1, -1)]


def draw(root: Path) -> str:
    """The picture as SVG."""
    imports = imports_between_packages(root)
    upper = {package: wanted - set(FOUNDATION) for package, wanted in imports.items() if package not in FOUNDATION}
    chart = Chart(without_detours(upper))
    height = HEAD + len(chart.rows) * ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">',
        f"<style>{STYLE}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<polygon points="0,0 8,4 0,8" fill="#8c959f"/></marker>',
    ]
    for place, package in enumerate(FOUNDATION):
        width = (WIDTH - GAP * (len(FOUNDATION) + 1)) / len(FOUNDATION)
        lines += _box(root / package, GAP + place * (width + GAP), GAP / 2, width, "what all stands on: ")
    lines += chart.arrows()
    for package, (middle, top) in chart.places.items():
        if package in imports:
            width = 2 * BOX_WIDTH if chart.alone(package) else BOX_WIDTH
            lines += _box(root / package, middle - width / 2, top, width)
    return "\n".join([*lines, "</svg>", ""])


class Chart:
    """Packages in rows, and arrows that go from row to row; where one passes a row, a gap is left for it."""

    def __init__(self, imports: Imports) -> None:
        self._above: dict[str, set[str]] = {}
        self.rows = rows(imports)
        row_of = {package: number for number, row in enumerate(self.rows) for package in row}
        for package, wanted in imports.items():
            self._above[package] = {self._passed(other, package, row_of) for other in wanted}
        self.places: dict[str, tuple[float, float]] = {}
        for number in range(len(self.rows)):
            self._place(number)

    def alone(self, package: str) -> bool:
        """Whether no other is in its row, nor passes it: there is room for a long list of files."""
        return [package] in self.rows

    def arrows(self) -> Iterator[str]:
        """From the lower edge of what is imported to the upper edge of what imports it."""
        for package in sorted(self._above):
            for other in sorted(self._above[package]):
                yield self._arrow(other, package)

    def _passed(self, start: str, end: str, row_of: dict[str, int]) -> str:
        """The last gap on the way from `start` to `end`, or `start` itself if there is none."""
        for row in range(row_of[start] + 1, row_of[end]):
            gap = f"{start} > {end} {row}"
            self.rows[row].append(gap)
            self._above[gap] = {start}
            start = gap
        return start

    def _place(self, number: int) -> None:
        row = sorted(self.rows[number], key=lambda name: (self._aim(name), name))
        widths = [BOX_WIDTH if " " not in name else GAP for name in row]
        left = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
        for name, width in zip(row, widths, strict=True):
            self.places[name] = left + width / 2, HEAD + number * ROW
            left += width + GAP

    def _aim(self, name: str) -> float:
        """Where what it imports lies, in mean."""
        above = [self.places[other][0] for other in self._above.get(name, ())]
        return sum(above) / len(above) if above else WIDTH / 2

    def _arrow(self, other: str, package: str) -> str:
        start_x, start = self.places[other]
        end_x, end = self.places[package]
        start += BOX_HEIGHT
        bend = (end - start) / 2
        curve = f"C{start_x:.0f},{start + bend:.0f} {end_x:.0f},{end - bend:.0f} {end_x:.0f},{end:.0f}"
        through = f" V{end + BOX_HEIGHT}" if " " in package else ""
        tip = "" if through else ' marker-end="url(#tip)"'
        return f'<path d="M{start_x:.0f},{start:.0f} {curve}{through}"{tip}/>'


def _imported(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "worldmodels":
                parts = (node.module or "").split(".")[1:2]
                yield from parts or [alias.name for alias in node.names]


def _reached(imports: Imports, start: str) -> set[str]:
    """All that `start` imports, by whatever way."""
    found: set[str] = set()
    ahead = list(imports[start])
    while ahead:
        package = ahead.pop()
        if package not in found:
            found.add(package)
            ahead += imports[package]
    return found


def _box(package: Path, left: float, top: float, width: float, remark: str = "") -> Iterator[str]:
    yield f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}"/>'
    yield f'<text class="name" x="{left + 10:.0f}" y="{top + 21:.0f}">{package.name}/</text>'
    files = sorted(path.stem for path in package.iterdir() if path.suffix in ("", ".py") and path.stem[:2] != "__")
    for number, line in enumerate(textwrap.wrap(remark + ", ".join(files), int(width / 6.2))):
        yield f'<text class="files" x="{left + 10:.0f}" y="{top + 38 + 13 * number:.0f}">{line}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(ROOT / "worldmodels"))
