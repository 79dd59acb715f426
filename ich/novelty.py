"""How far a scan lies from those that a network was trained on, by the network's own features.

A network answers for any picture. Features at the bottom of the U-Net, averaged over a scan, lie close together for
scans of the kind that it knows and far off for others: a phantom, wrong HU, another modality.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from ich.atomic import replacing
from ich.model import Settings, bottom_features, channels, logits_of, shows_head
from ich.provenance import file_hash
from ich.training_slices import Slices

FILE = "novelty.safetensors"
MOST_CASES = 300  # of the training split, the first ones: enough for a covariance of some 150 features


@dataclass(frozen=True, eq=False)
class Familiar:
    """What a network knows.

    Attributes
    ----------
    mean, sd : (C,) of the features over training cases. precision : (C, C) of the standardized features.
    limit : the largest distance among validation cases.
    n_training, n_validation : cases behind them.
    """

    mean: np.ndarray
    sd: np.ndarray
    precision: np.ndarray
    limit: float
    n_training: int
    n_validation: int

    def distance(self, embedding: np.ndarray) -> float:
        """Mahalanobis distance of a scan's features (C,) over the root of C: about 1 or less for a scan like those
        of training, whatever the network.
        """
        z = (embedding - self.mean) / self.sd
        return float(np.sqrt(max(z @ self.precision @ z, 0.0) / len(z)))


def scan_embedding(features: torch.Tensor, hu: torch.Tensor, settings: Settings) -> np.ndarray:
    """(C,) mean over the slices that show a head of features (K, C); of all slices where none does."""
    head = shows_head(hu, settings)
    return (features[head] if bool(head.any()) else features).mean(0).float().cpu().numpy()


@torch.inference_mode()
def embeddings(network: torch.nn.Module, slices: Slices, settings: Settings, most: int, batch: int = 16) -> np.ndarray:
    """(cases, C) features of the first `most` cases of a split."""
    network.eval()
    found = []
    for case in range(min(most, len(slices.case_ids))):
        mine = (slices.case == case).nonzero().flatten()
        features = []
        for stack in slices.hu_batches(batch, mine):
            with bottom_features(network) as seen:
                logits_of(network, channels(stack, settings), settings)
            features.append(torch.stack(seen).mean(0))
        found.append(scan_embedding(torch.cat(features), slices.hu[mine], settings))
    return np.stack(found)


def fit(network: torch.nn.Module, training: Slices, validation: Slices, settings: Settings) -> Familiar | None:
    """Mean and covariance of the training cases' features, and the limit from the validation cases.

    None where there are too few cases to tell what is unlike them.

    Source: Lee et al., NeurIPS 2018 (Mahalanobis distance of features); the covariance is that of Ledoit and Wolf 2004,
    which can be inverted with fewer cases than features.
    """
    from sklearn.covariance import LedoitWolf  # a second to import

    if len(training.case_ids) < 2:
        return None
    known = embeddings(network, training, settings, MOST_CASES)
    mean, sd = known.mean(0), known.std(0) + 1e-3
    precision = LedoitWolf(assume_centered=True).fit((known - mean) / sd).precision_
    held = embeddings(network, validation, settings, MOST_CASES)
    familiar = Familiar(mean, sd, precision.astype(np.float32), np.inf, len(known), len(held))
    limit = max(familiar.distance(each) for each in held)
    if not limit > 0:  # training cases that are all the same have no spread
        return None
    return Familiar(mean, sd, familiar.precision, limit, len(known), len(held))


def save(familiar: Familiar, folder: Path) -> str:
    """Write novelty.safetensors into a model folder; its SHA-256."""
    numbers = np.array([familiar.limit, familiar.n_training, familiar.n_validation], np.float64)
    with replacing(folder / FILE) as part:
        save_file({"mean": familiar.mean, "sd": familiar.sd, "precision": familiar.precision, "numbers": numbers}, part)
    return file_hash(folder / FILE)


def load(folder: Path, sha256: str | None) -> Familiar | None:
    """What `save` wrote; None for weights without it.

    Raises
    ------
    FileNotFoundError, ValueError
        The card names a file that is missing, or that is not the one it was written with.
    """
    if sha256 is None:
        return None
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {FILE} in {folder}, which settings.json names")
    if file_hash(path) != sha256:
        raise ValueError(f"{path}: its SHA-256 differs from that in settings.json")
    found = load_file(path)
    limit, training, validation = found["numbers"].tolist()
    return Familiar(found["mean"], found["sd"], found["precision"], limit, int(training), int(validation))
