"""Networks of different seeds that are one model: which seeds, and what to say of them.

Owns the seeds. Must not know how the networks are trained. Read next: `rnatracker/training/fold_loop.py`, which trains
them one after another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rnatracker import metrics
from rnatracker.config import Config


def seed_of(seed: int, number: int) -> int:
    """Return the seed of one of a training's networks.

    Runs with neighbouring seeds so have no network in common. It is no seed of an epoch's dropout either.

    Args:
        seed: the run's, which the first network has.
        number: which network, from 1.
    """
    return seed if number == 1 else int(np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0])


def settings_of(config: Config, number: int) -> Config:
    """Return the settings of one of a training's networks, as if it were trained alone.

    They are kept with its weights, so that whoever continues from these trains one network.

    Args:
        config: the run's settings.
        number: which network, from 1.
    """
    own = {"seed": seed_of(config.train.seed, number), "seeds": 1}
    return config.model_copy(update={"train": config.train.model_copy(update=own)})


def said_beside(singles: Mapping[str, float], together: Mapping[str, float], n_networks: int) -> str:
    """Word what one network reaches by itself, and the mean of all beside it.

    Args:
        singles: `single/pcc_mean` and `single/pcc_overall` of single networks, on average; undefined ones may lack.
        together: `pcc_mean` and `pcc_overall` of their mean prediction.
        n_networks: how many there are.
    """
    own = [metrics.shown(singles.get(f"single/{name}", math.nan)) for name in ("pcc_mean", "pcc_overall")]
    of_all = [metrics.shown(together[name]) for name in ("pcc_mean", "pcc_overall")]
    return (
        f"one network by itself reaches PCC mean {own[0]}, overall {own[1]}, on average; the mean of {n_networks} "
        f"networks reaches mean {of_all[0]}, overall {of_all[1]}"
    )
