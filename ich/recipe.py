"""How long and how hard a network is trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    `positive_share` of each batch holds blood: most slices of a head show none. `hard_share` is drawn from all slices
    by how poorly each was labeled when last seen: what is taken for blood comes back until it no longer is.
    `scanner_share` of the slices is also changed as other scanners would, `ich.augment`.
    """

    steps: int = 1000
    batch_size: int = 10
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    positive_share: float = 0.6
    hard_share: float = 0.0
    scanner_share: float = 0.0
    ema_decay: float = 0.99
    validate_every: int = 250
    seed: int = 0
