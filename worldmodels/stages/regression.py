"""How well what is known of frames tells what was true there: maps that are fitted, and their R²."""

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from worldmodels.core.seeding import integer, rng

STRENGTHS = 10.0 ** np.arange(-1, 7)  # of the ridge; chosen on a quarter of the fitted episodes
RESAMPLES = 200
UNITS = 128  # of the nonlinear probe's one hidden layer
BATCH = 256
DECAYS = (1e-3, 10.0)  # of its weights; many features that tell nothing need the other one. Chosen as STRENGTHS are,
EPOCHS = 40  # and so is after which of these it is taken

Truth = dict[str, np.ndarray]
"""Of an episode: name -> float32 (T+1, n), NaN where there is none."""


class Known(NamedTuple):
    """Features of frames, float32 (N, F), and what was true there, (N, targets)."""

    features: np.ndarray
    truth: np.ndarray

    @classmethod
    def along(cls, feats: list[np.ndarray], truth: list[np.ndarray]) -> "Known":
        """Of whole episodes."""
        return cls(np.concatenate(feats), np.concatenate(truth))

    def of(self, targets: list[int]) -> "Known":
        """Where these targets, which have the same frames, are told."""
        rows = ~np.isnan(self.truth[:, targets[0]])
        return Known(self.features[rows], self.truth[rows][:, targets])


Reader = Callable[[Known, Known, np.ndarray, int], np.ndarray]
"""Fits a map from features to truth, chosen among several by how it does on the second `Known`, each target for
itself; says what it makes of other features (N, F), by a seed."""


def linear(known: Known, held: Known, other: np.ndarray, seed: int) -> np.ndarray:
    """A Reader: ridge regression on standardised features."""
    from sklearn.linear_model import Ridge  # late: only the probe needs it

    x, held_x, other_x = _standardised(known.features, held.features, other)
    y = known.truth.astype(np.float64)
    tried = (Ridge(strength).fit(x, y).predict(held_x) for strength in STRENGTHS)
    errors = [((guess.reshape(held.truth.shape) - held.truth) ** 2).mean(0) for guess in tried]
    best = STRENGTHS[np.argmin(errors, 0)]  # (targets,)
    predicted: np.ndarray = Ridge(best).fit(x, y).predict(other_x).reshape(len(other_x), -1)
    return predicted


def nonlinear(known: Known, held: Known, other: np.ndarray, seed: int) -> np.ndarray:
    """A Reader: a network with one hidden layer, of the decay and after the epoch that serve best."""
    from sklearn.neural_network import MLPRegressor

    seen = _standardised(known.features, held.features, other)
    x, held_x, other_x = (part.astype(np.float32) for part in seen)
    y, held_y = (part.astype(np.float32) for part in _standardised(known.truth, held.truth))
    least = (held_y**2).mean(0)  # of one that says the mean for ever
    best = np.zeros((len(other), len(least)), np.float32)
    for decay in DECAYS:
        luck = np.random.RandomState(integer(seed, "probe network"))
        network = MLPRegressor(
            hidden_layer_sizes=(UNITS,), alpha=decay, batch_size=min(BATCH, len(x)), random_state=luck
        )
        for _ in range(EPOCHS):
            network.partial_fit(x, y if len(least) > 1 else y[:, 0])
            error = ((network.predict(held_x).reshape(held_y.shape) - held_y) ** 2).mean(0)
            best = np.where(error < least, network.predict(other_x).reshape(best.shape), best)
            least = np.minimum(error, least)
    predicted: np.ndarray = known.truth.mean(0) + best * _scale(known.truth)
    return predicted


READERS: dict[str, Reader] = {"": linear, ", nonlinear": nonlinear}


def _standardised(known: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """All of them as float64 (N, n), shifted and scaled so that the numbers of the first vary about 0 by 1."""
    center = known.mean(0, np.float64)
    scale = _scale(known)
    return [(part - center) / scale for part in (known, *others)]


def _scale(known: np.ndarray) -> np.ndarray:
    """Standard deviations (n,), a little more so that what hardly varies is not blown up."""
    scale: np.ndarray = known.std(0, np.float64) + 1e-6
    return scale


def r_squared(
    fit_on: list[np.ndarray],
    score_on: list[np.ndarray],
    fitted: list[Truth],
    scored: list[Truth],
    seed: int,
    read: Reader = linear,
) -> dict[str, tuple[float, float]]:
    """R² of every quantity on the scored episodes, with the half width of its bootstrap confidence interval.

    A quantity of several numbers counts in mean over those that vary. It is fitted and scored on the frames where
    there is one; left out where it does not vary there, or has no frame to fit or to score.
    """
    truth = [_targets(e) for e in scored]
    predicted = _predicted(read, fit_on, score_on, [_targets(e) for e in fitted], truth, seed)
    whole = np.concatenate(truth)
    frames = (~np.isnan(whole)).sum(0)  # (targets,)
    center = np.nansum(whole, 0) / np.maximum(frames, 1)
    errors = [np.nansum((guess - true) ** 2, 0) for guess, true in zip(predicted, truth, strict=True)]
    error = np.array(errors)  # (episodes, targets)
    spread = np.array([np.nansum((true - center) ** 2, 0) for true in truth])
    varies = (spread.sum(0) > 1e-6 * frames) & ~np.isnan(np.concatenate(predicted)).all(0)
    generator = rng(seed, "bootstrap")
    draws = [generator.integers(len(error), size=len(error)) for _ in range(RESAMPLES)]
    samples = [np.arange(len(error)), *draws]  # the episodes as they are come first
    result: dict[str, tuple[float, float]] = {}
    start = 0
    for name, values in scored[0].items():
        end = start + values.shape[1]
        columns = np.arange(start, end)[varies[start:end]]
        start = end
        if len(columns):
            score, *others = _scores(error[:, columns], spread[:, columns], samples)
            result[name] = (score, float(1.96 * np.std(others)))
    return result


def _predicted(
    read: Reader,
    fit_on: list[np.ndarray],
    score_on: list[np.ndarray],
    fitted: list[np.ndarray],
    scored: list[np.ndarray],
    seed: int,
) -> list[np.ndarray]:
    """What `read` makes of each scored episode's frames, (T+1, targets); NaN where nothing is to be told.

    It chooses on the first quarter of the fitted episodes, having fitted the others. Targets that are told in the same
    frames are fitted together.
    """
    back = max(1, len(fit_on) // 4)
    known = Known.along(fit_on[back:], fitted[back:])
    held = Known.along(fit_on[:back], fitted[:back])
    other = Known.along(score_on, scored)
    predicted = np.full(other.truth.shape, np.nan)
    told = ~np.isnan(np.concatenate([known.truth, held.truth, other.truth]))
    together: dict[bytes, list[int]] = defaultdict(list)
    for target, frames in enumerate(told.T):
        together[frames.tobytes()].append(target)
    for targets in together.values():
        parts = [part.of(targets) for part in (known, held, other)]
        if all(len(part.features) for part in parts):
            rows = np.flatnonzero(~np.isnan(other.truth[:, targets[0]]))
            predicted[rows[:, None], targets] = read(parts[0], parts[1], parts[2].features, seed)
    return np.split(predicted, np.cumsum([len(truth) for truth in scored])[:-1])


def _scores(error: np.ndarray, spread: np.ndarray, samples: list[np.ndarray]) -> list[float]:
    """R² of a quantity in each sample of episodes, but for those in which one of its numbers stands still."""
    scores = []
    for episodes in samples:
        varied = spread[episodes].sum(0)
        if (varied > 0).all():
            scores.append(float(np.mean(1 - error[episodes].sum(0) / varied)))
    return scores


def _targets(truth: Truth) -> np.ndarray:
    return np.concatenate(list(truth.values()), 1)
