"""`python -m benchmarks [row ...]`: a table of ratios measured side by side; of all rows (`make bench`) also a JSON."""

import argparse
import importlib
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.measure import Ratio, measure
from worldmodels.core.allocator import keep_freed_memory
from worldmodels.core.device import resolved
from worldmodels.core.files import atomic
from worldmodels.core.report import say, table

GROUPS = (
    "carracing", "doom", "dmc", "vision", "memory", "dream", "planning", "hrssm", "generation", "reading",
    "workers", "ray_cluster", "growth",
)  # fmt: skip
OUT = "benchmarks/bench-{}.json"  # of either kind of processor: fast at bf16, or not


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="row", help=f"which of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="how often each side is timed")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    keep_freed_memory()
    results = []
    for name in options.groups or GROUPS:
        rows = importlib.import_module(f"benchmarks.{name}").rows()
        for row in rows:
            with tqdm(desc=row.name, unit="run", leave=False) as bar:
                results.append(measure(row, options.rounds, bar.update))
            say(f"{row.name}: " + ", ".join(f"{k} {v}" for k, v in results[-1].items() if isinstance(v, Ratio)))
    say(table("medians of rates; ratios with their range", HEAD, [_line(result) for result in results]))
    if options.groups:  # some rows do not replace a record of all
        return
    precision = resolved("auto", torch.device("cpu"))
    about: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    about |= {"precision": precision, "rounds": options.rounds, "rows": [_plain(r) for r in results]}
    path = Path(OUT.format(precision))
    with atomic(path) as aside:
        aside.write_text(json.dumps(about, indent=1))
    say(f"all figures: {path}")


HEAD = ("", "unit", "ours", "reference", "limit", "ours / reference", "ours / limit")


def _line(result: dict[str, Any]) -> tuple[object, ...]:
    medians = [statistics.median(result["rates"].get(side, [0.0])) for side in SIDES]
    rates = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}" if rate else "" for rate in medians]
    return (result["name"], result["unit"], *rates, str(result.get("reference", "")), str(result.get("limit", "")))


SIDES = ("ours", "reference", "limit")


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v._asdict() | {"reached": v.reached} if isinstance(v, Ratio) else v for k, v in result.items()}


if __name__ == "__main__":
    main()
