"""What each of the two processes does that test_distributed.py has torchrun start."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodels.core import distributed
from worldmodels.models import mdnrnn, vae
from worldmodels.settings.launch import several_processes
from worldmodels.settings.models import HRSSMSettings, MDNRNNSettings, VAESettings
from worldmodels.settings.stages import MemoryConfig, VisionConfig
from worldmodels.stages import train_memory as memory
from worldmodels.stages import train_vision as vision
from worldmodels.training import train
from worldmodels.training.run import Run

Config = VisionConfig | MemoryConfig
LOG, FIT = Run.log, train.fit


def configs(data: Path, run: Path) -> dict[str, Config]:
    """A VAE, an MDN-RNN on it and an HRSSM, tiny, by the folder that each trains in."""
    common: Any = {"env": "doom", "data": data, "workers": 0, "fresh": True, "precision": "fp32", "save_every": 2}
    v = VisionConfig(
        **common, run=run, steps=12, batch_size=8, shuffle_buffer=100, max_norm=1.0, model=VAESettings(code_size=8)
    )
    mdn_rnn = MDNRNNSettings(hidden_size=16, sequence_length=10)
    m = MemoryConfig(**common, run=run, steps=6, batch_size=2, shuffle_buffer=100, clip=1.0, model=mdn_rnn)
    sizes: dict[str, Any] = {"depth": 4, "hidden_size": 16, "groups": 4, "classes": 4, "units": 16}
    hrssm = HRSSMSettings(code_size=8, sequence_length=8, **sizes)
    h = dataclasses.replace(v, run=run / "hrssm", steps=6, vision="hrssm", model=hrssm, batch_size=2)
    return {"vision": v, "memory": m, "hrssm/vision": h}


def train_one(config: Config) -> None:
    """The stage that `config` is of."""
    memory.train_memory(config) if isinstance(config, MemoryConfig) else vision.train_vision(config)


def without_noise(patch: Any = setattr) -> None:
    """From now on the VAE and the MDN-RNN take a code's mean for the code: processes draw noise of their own."""
    for module in (vae, mdnrnn):
        patch(module, "sample_code", _mean)


def _mean(embed: Tensor, noise: Tensor) -> Tensor:
    return embed[..., : noise.shape[-1]]


def _stop_at(step: int) -> Any:
    """A Run.log that is interrupted when metrics of `step` are written, before its checkpoint."""

    def log(self: Run, at: int, metrics: dict) -> None:
        LOG(self, at, metrics)
        if at == step:
            raise KeyboardInterrupt

    return log


def _keep(module: torch.nn.Module, *arguments: Any) -> None:
    """Trains, and leaves what this very process's weights have become."""
    FIT(module, *arguments)
    run: Run = arguments[3]
    torch.save(module.state_dict(), run.folder / f"weights-{distributed.rank()}.pt")


@several_processes
def main() -> None:
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    without_noise()
    train.fit = _keep
    for config in configs(data, out / "straight").values():
        train_one(config)
        distributed.barrier()  # stage 3 reads what the first process alone wrote
    vision._report = memory._report = lambda *_: None  # which takes longer than the training
    for config in configs(data, out / "again").values():
        Run.log = _stop_at(4)
        try:
            train_one(config)
        except KeyboardInterrupt:
            Run.log = LOG
        train_one(dataclasses.replace(config, fresh=False))
        distributed.barrier()


if __name__ == "__main__":
    main()
