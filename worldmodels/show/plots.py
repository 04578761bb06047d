"""Metrics to PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from worldmodels.core.files import atomic

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib import ticker

History = list[dict[str, float]]
SIZE = (7.0, 4.0)


def curves(path: Path, history: History, names: Sequence[str], title: str) -> None:
    """One panel per metric, over steps, three in a row; nothing is drawn if there is none."""
    if not names:
        return
    wide = min(3, len(names))
    high = -(-len(names) // wide)
    size = (4.5 * wide, 3.5 * high)
    figure, axes = plt.subplots(high, wide, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        for prefix, style in (("", "-"), ("held_out_", "o--")):
            points = [(h["step"], h[prefix + name]) for h in history if prefix + name in h]
            if points:
                axis.plot(*zip(*points, strict=True), style, ms=4, label="held out" if prefix else "training")
        axis.set(xlabel="gradient step", ylabel=name)
        axis.legend()
    figure.suptitle(title)
    _save(figure, path)


def picture_grid(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Rows of pictures, label -> uint8 (N, 64, 64, 3)."""
    count = len(next(iter(rows.values())))
    figure, axes = plt.subplots(len(rows), count, figsize=(1.2 * count, 1.3 * len(rows)), squeeze=False)
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, fontsize=8)
    _save(figure, path)


def fitness(
    path: Path,
    history: History,
    title: str,
    references: dict[str, float] | None = None,
    apart: bool = False,
) -> None:
    """Fitness per generation: population mean and best, and the tested CMA mean.

    `apart` gives real scores a panel of their own, where the others are those of shorter episodes.
    """
    apart = apart and any("real_mean" in line for line in history)
    figure, axes = plt.subplots(1 + apart, figsize=(7.0, 6.5) if apart else SIZE, squeeze=False, sharex=True)
    axis = axes[0, 0]
    history = [h for h in history if h.keys() >= {"fitness_mean", "fitness_std", "fitness_best"}]
    generation = [h["step"] for h in history]
    dot = "o" if len(history) == 1 else ""
    mean = np.array([h["fitness_mean"] for h in history])
    std = np.array([h["fitness_std"] for h in history])
    best = [h["fitness_best"] for h in history]
    axis.plot(generation, mean, marker=dot, color="C0", label="population mean")
    axis.fill_between(generation, mean - std, mean + std, color="C0", alpha=0.2, lw=0)
    axis.plot(generation, best, marker=dot, color="C0", ls=":", label="population best")
    _tests(axis, history, "test", "CMA mean, held-out seeds", "C1")
    real = axes[-1, 0]
    _tests(real, history, "real", "CMA mean, real", "C3")
    _references(real, references)
    axis.set(ylabel="return", title=title)
    for each in axes[:, 0]:
        _legend_beside(each)
    real.set(xlabel="generation", ylabel="real return" if apart else "return")
    _save(figure, path)


def imagined(path: Path, history: History, title: str, apart: bool = False) -> None:
    """What an actor's decisions are worth, per update, and how it tested.

    Those returns are discounted, and end with what the critic expects beyond; so they have a panel of their own.
    `apart` gives real scores another, where the tests are of shorter episodes.
    """
    apart = apart and any("real_mean" in line for line in history)
    figure, axes = plt.subplots(2 + apart, figsize=(7.0, 9.0) if apart else (7.0, 6.5), squeeze=False, sharex=True)
    tested, real, expected = axes[0, 0], axes[int(apart), 0], axes[-1, 0]
    learnt_from = [(line["step"], line["episode_return"]) for line in history if "episode_return" in line]
    if learnt_from:
        tested.plot(*zip(*learnt_from, strict=True), color="C7", lw=0.8, label="learnt from")
    _tests(tested, history, "test", "held-out seeds", "C1")
    _tests(real, history, "real", "real", "C3")
    for name, label, style in (("return", "what came", "-"), ("value", "critic", ":")):
        points = [(line["step"], line[name]) for line in history if name in line]
        if points:
            expected.plot(*zip(*points, strict=True), style, marker="o" if len(points) == 1 else "", label=label)
    tested.set(ylabel="return", title=title)
    real.set(ylabel="real return" if apart else "return")
    expected.set(xlabel="update", ylabel="discounted return")
    for each in axes[:, 0]:
        _legend_beside(each)
    _save(figure, path)


def _tests(axis: Any, history: History, name: str, label: str, colour: str) -> None:
    """Scores of the CMA mean, with their 95 % confidence intervals."""
    names = ("step", f"{name}_mean", f"{name}_ci")
    points = [tuple(h[one] for one in names) for h in history if h.keys() >= set(names)]
    if points:
        x, y, error = zip(*points, strict=True)
        axis.errorbar(x, y, error, fmt="o-", ms=4, capsize=2, color=colour, label=label)


def sweep(path: Path, rows: list[dict[str, float]], references: dict[str, float] | None = None) -> None:
    """Dream score and real score over temperature, with 95 % confidence intervals."""
    figure, axis = plt.subplots(figsize=SIZE)
    tau = [row["tau"] for row in rows]
    for name, label, colour in (("dream", "in its own dream", "C1"), ("real", "in the real game", "C3")):
        if any(f"{name}_mean" not in row for row in rows):
            continue
        mean = [row[f"{name}_mean"] for row in rows]
        half = [row[f"{name}_ci"] for row in rows]
        axis.errorbar(tau, mean, half, fmt="o-", capsize=3, color=colour, label=label)
    _references(axis, references)
    axis.set(xlabel="temperature τ of the dream", ylabel="return", title="One controller per temperature")
    _legend_beside(axis)
    _save(figure, path)


def bars(path: Path, scores: dict[str, tuple[float, float]], title: str) -> None:
    """Scores with their 95 % confidence intervals, label -> (mean, half width); colours as in `sweep`."""
    figure, axis = plt.subplots(figsize=SIZE)
    means, errors = zip(*scores.values(), strict=True)
    colours = ["C1" if "dream" in name else "C3" if name.startswith("our ") else "grey" for name in scores]
    axis.barh(list(scores), means, xerr=errors, capsize=3, color=colours)
    axis.invert_yaxis()
    axis.set(xlabel="return (mean, 95 % confidence interval)", title=title)
    _save(figure, path)


def by_round(path: Path, series: dict[str, list[tuple[int, float, float]]], title: str) -> None:
    """Scores round by round, with their 95 % confidence intervals: series -> (round, mean, half width) each."""
    figure, axis = plt.subplots(figsize=SIZE)
    for name, points in series.items():
        rounds, means, errors = zip(*points, strict=True)
        axis.errorbar(rounds, means, yerr=errors, marker="o", ms=4, capsize=3, label=name)
    axis.set(xlabel="round", ylabel="return (mean, 95 % confidence interval)", title=title)
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    _legend_beside(axis)
    _save(figure, path)


def grouped(path: Path, values: dict[str, dict[str, tuple[float, float]]], title: str, label: str) -> None:
    """Several series side by side, series -> name -> (value, half width of its interval); from zero up.

    Successive pairs of series share a hue.
    """
    names = list(next(iter(values.values())))
    figure, axis = plt.subplots(figsize=(max(6.0, 1.1 * len(names) + 0.25 * len(values) * len(names)), 4.0))
    width = 0.8 / len(values)
    for i, (series, row) in enumerate(values.items()):
        heights, errors = zip(*(row[name] for name in names), strict=True)
        at = np.arange(len(names)) + (i + 0.5) * width - 0.4
        color = plt.get_cmap("tab20")(i % 20)
        axis.bar(at, heights, width, yerr=errors, capsize=2, label=series, color=color)
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set(ylabel=label, title=title, ylim=(0, None))
    _legend_beside(axis)
    _save(figure, path)


def calibration(path: Path, predicted: np.ndarray, happened: np.ndarray, title: str) -> None:
    """How often what was given a probability happened, in bins of equal count; the diagonal is calibrated.

    Error bars are two standard errors; a bin in which nothing happened is an empty circle at one event's
    height.
    """
    bins = [part for part in np.array_split(np.argsort(predicted), 12) if len(part)]
    figure, axis = plt.subplots(figsize=(4.5, 4.0))
    for part in bins:
        x = predicted[part].mean()
        events = happened[part].sum()
        n = len(part)
        rate = max(events, 1) / n
        error = 2 * np.sqrt(rate * (1 - rate) / n)
        spread = [[min(error, rate * 0.9)], [error]]  # a logarithmic axis knows no zero
        label = "observed, ± 2 standard errors" if events else "none observed: shown as if one was"
        axis.errorbar(x, rate, spread, fmt="o", color="C0", mfc="C0" if events else "white", label=label)
    low = max(min(predicted[part].mean() for part in bins) / 2, 1e-7)
    axis.plot([low, 1], [low, 1], color="grey", lw=0.8, label="calibrated")
    axis.set(xscale="log", yscale="log", title=title)
    axis.set(xlabel="predicted probability", ylabel="observed frequency")
    handles, labels = axis.get_legend_handles_labels()
    each = dict(zip(labels, handles, strict=True))  # a label once
    axis.legend(each.values(), each, fontsize=7, loc="upper left")
    _save(figure, path)


def by_age(path: Path, ages: Sequence[str], rates: dict[str, tuple[np.ndarray, np.ndarray]], title: str) -> None:
    """Deaths per 1,000 steps at each age, series -> (rates, standard errors); one that is not a number is left out."""
    figure, axis = plt.subplots(figsize=SIZE)
    for number, (label, (rate, error)) in enumerate(rates.items()):
        at = np.arange(len(ages)) + 0.08 * number
        axis.errorbar(at, rate, 2 * error, fmt="o-", capsize=3, color="C3" if number == 0 else "C1", label=label)
    axis.set_xticks(range(len(ages)), ages, fontsize=8)
    axis.set(xlabel="step of the episode", ylabel="deaths per 1,000 steps, ± 2 standard errors", title=title)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)
    _save(figure, path)


def _references(axis: Any, references: dict[str, float] | None) -> None:
    for name, value in (references or {}).items():
        axis.axhline(value, color="grey", lw=0.8, ls="--")
        beside = axis.get_yaxis_transform()
        axis.text(1.0, value, f" {name}", transform=beside, fontsize=7, va="center", color="grey")


def _legend_beside(axis: Any) -> None:
    """To the right of the axes, where it hides nothing."""
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _save(figure: Any, path: Path) -> None:
    with atomic(path) as aside:
        figure.savefig(aside, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
