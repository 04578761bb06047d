"""Whether dreams last as long as reality: what stage 3 found of the trivial policies, for all who use the dreams later.

A dream that lets a policy live that sees nothing is a dream in which evolution learns nothing of use.
"""

from pathlib import Path
from typing import NamedTuple

from worldmodels.core import files, schema
from worldmodels.core.report import Summary

FILE = "trust.json"
KIND = 1.25  # times as long as really: more is too kind
HARSH = 0.8
LIVED = schema.fields(
    mean=schema.number(0),
    std=schema.number(finite=False),
    ci=schema.number(finite=False),
    n=schema.whole(1),
)
EACH = schema.fields(real=LIVED, sampled=LIVED, decided=LIVED)
HOLDS = schema.fields(tau=schema.number(), lives=schema.named(EACH))


class Lives(NamedTuple):
    """How many steps a policy lives, really and in dreams."""

    real: Summary
    sampled: Summary  # dreamt, ends drawn with the predicted probability
    decided: Summary  # dreamt, ends decided by the model

    def dreamt(self, sample_end: bool) -> Summary:
        """In dreams that end as asked."""
        return self.sampled if sample_end else self.decided

    def ratio(self, sample_end: bool) -> float:
        """Dreamt over real."""
        return self.dreamt(sample_end).mean / self.real.mean


def write(memory: Path, tau: float, lives: dict[str, Lives]) -> None:
    """Keeps what was found, policy by policy, beside the M in the folder `memory`."""
    record = {
        "tau": tau,
        "lives": {label: {how: each._asdict() for how, each in one._asdict().items()} for label, one in lives.items()},
    }
    files.write_text(memory / FILE, files.to_json(record, 2) + "\n")


def read(memory: Path) -> tuple[float, dict[str, Lives]]:
    """τ of the dreams, and what was found there; of an M that was never compared, nothing.

    Raises:
        UserError: if the file is damaged.
    """
    path = memory / FILE
    if not path.exists():
        return 1.0, {}
    record = schema.read(path, HOLDS)
    return record["tau"], {
        label: Lives(**{how: Summary(**numbers) for how, numbers in one.items()})
        for label, one in record["lives"].items()
    }


def doubts(memory: Path, sample_end: bool) -> list[str]:
    """What to warn of: trivial policies that live much longer, or shorter, in dreams of this M than really."""
    tau, lives = read(memory)
    world = f"a dream at τ {tau:g}"
    found = (odd_lengths(f"'{who}'", one.dreamt(sample_end), one.real, world) for who, one in lives.items())
    return [said for said in found if said]


def odd_lengths(who: str, dreamt: Summary, real: Summary, world: str = "this dream") -> str:
    """What to warn of if dreams end sooner or later than reality by a quarter, and by more than luck explains; else
    ""."""
    ratio = dreamt.mean / max(real.mean, 1e-9)
    if abs(dreamt.mean - real.mean) <= dreamt.ci + real.ci or HARSH <= ratio <= KIND:
        return ""
    how = "kind" if ratio > 1 else "harsh"
    return (
        f"{world} is too {how}: {who} lives {ratio:.2f} times as long as really ({dreamt.mean:.0f} and "
        f"{real.mean:.0f} steps)"
    )
