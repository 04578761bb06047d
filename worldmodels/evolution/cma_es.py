"""CMA-ES by pycma, as we want it: it maximises, draws from our generator, and its state is plain data."""

from typing import Any

import numpy as np

from worldmodels.core import schema
from worldmodels.core.seeding import rng

FULL_COVARIANCE_LIMIT = 3000  # numbers; above it the matrix can neither be paid for nor learnt
# What belongs to the options and not to the search: one made anew from the same options has it already.
NOT_STATE = {"opts", "inopts", "inputargs", "logger", "gp", "boundary_handler", "timer", "_es_opts", "params"}
LATER = {"mean_old_old"}  # arrays like the mean, which pycma makes in its second generation


class CMAES:
    """Maximises a noisy function of `num_params` numbers.

    Args:
        num_params: D.
        pop_size: P, candidates per generation.
        sigma0: first step size, around the start.
        seed: names the search's own stream; numpy's global generator is not touched.
        start: (D,), where it begins; zero, if nothing is given.
    """

    def __init__(
        self,
        num_params: int,
        pop_size: int,
        sigma0: float,
        seed: int,
        start: np.ndarray | None = None,
    ) -> None:
        import cma  # late: it takes as long to load as torch, and no worker needs it

        self._seed = seed
        self.generation = 0
        options = {
            "popsize": pop_size,
            "seed": np.nan,  # seeds nothing, where 0 would stand for the clock
            "randn": self._randn,
            "verbose": -9,
            "verb_log": 0,
            "signals_filename": "",
            "CMA_diagonal": num_params > FULL_COVARIANCE_LIMIT,
            # plain CMA-ES at every size: pycma mirrors samples in small populations and in high dimension
            "CMA_mirrors": 0,
            "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA,
        }
        begin = np.zeros(num_params) if start is None else np.asarray(start, np.float64)
        self._es = cma.CMAEvolutionStrategy(begin, sigma0, options)
        self._asked: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """float64 (D,), the centre of the distribution: this is tested and kept, not the luckiest sample."""
        return np.array(self._es.mean)

    @property
    def sigma(self) -> float:
        """Root mean square of the standard deviations over all coordinates."""
        return float(self._es.sigma * np.sqrt(np.mean(self._es.sm.variances)))

    def ask(self) -> np.ndarray:
        """float64 (P, D), this generation's candidates."""
        self._rng = rng(self._seed, "cma", self.generation)
        self._asked = np.array(self._es.ask())
        return self._asked

    def tell(self, fitness: np.ndarray) -> None:
        """Learns from the fitness (P,) of the candidates last asked for; higher is better."""
        if self._asked is None:
            raise RuntimeError("ask before you tell")
        self._es.tell(list(self._asked), (-np.asarray(fitness, np.float64)).tolist())  # pycma minimises
        self._asked = None
        self.generation += 1

    def state(self) -> dict[str, Any]:
        """All that the search knows, as plain data and arrays; to be taken after `tell`."""
        return {"generation": self.generation, "numbers": _numbers(self._es)}

    def load(self, state: dict[str, Any], source: object = "the state of the search") -> None:
        """Puts a search made with the same arguments where `state` was taken.

        Raises:
            UserError: naming `source`, if that search had other arguments or another version of pycma.
        """
        self.tell(np.arange(len(self.ask())))  # pycma makes some of its attributes in its first generation
        later = dict.fromkeys(LATER, schema.array("float64", len(self.mean)))
        numbers = schema.like(_numbers(self._es), later)
        schema.check(state, schema.fields(generation=schema.whole(1), numbers=numbers), source)
        self.generation = state["generation"]
        _restore(self._es, state["numbers"])

    def _randn(self, *shape: int) -> np.ndarray:
        return self._rng.standard_normal(shape)


def _numbers(node: Any) -> dict[str, Any]:
    """The numbers and arrays among an object's attributes, and those of the pycma objects that it holds."""
    found: dict[str, Any] = {}
    for name, value in vars(node).items():
        if name in NOT_STATE:
            continue
        if isinstance(value, np.ndarray) and value.flags.fnc:
            # LAPACK lays matrices column by column; laid otherwise, BLAS would round otherwise after a resume
            found[name] = {"$columns": value.T}
        elif _is_plain(value):
            found[name] = value
        elif isinstance(value, np.generic):
            found[name] = value.item()
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("cma"):
            found[name] = {"$object": _numbers(value)}
    return found


def _is_plain(value: Any) -> bool:
    if type(value) is list:  # pycma has lists that are more than lists
        return all(v is None or isinstance(v, bool | int | float) for v in value)
    return value is None or isinstance(value, bool | int | float | np.ndarray)


def _restore(node: Any, numbers: dict[str, Any]) -> None:
    for name, value in numbers.items():
        if isinstance(value, dict) and "$columns" in value:
            setattr(node, name, value["$columns"].copy().T)
        elif isinstance(value, dict):
            _restore(getattr(node, name), value["$object"])
        elif isinstance(value, np.ndarray):
            setattr(node, name, value.copy())
        else:
            setattr(node, name, list(value) if isinstance(value, list) else value)
