"""State of a training on disk, so that one that was stopped goes on with the very numbers it would have had."""

import hashlib
import json
import warnings
from pathlib import Path

import torch

from ich.atomic import replacing

FORMAT = 4  # of the state


def fingerprint(*parts: object) -> str:
    """SHA-256 of what makes a training the same one: settings, recipe, data, and how its state is written."""
    return hashlib.sha256(json.dumps([FORMAT, *(repr(part) for part in parts)]).encode()).hexdigest()


def weights_hash(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of the weights that a training starts from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, state: dict, mark: str) -> None:
    """Write `state` (tensors, numbers, text, lists and dictionaries of them) in one step, with its `fingerprint`."""
    with replacing(path) as part:
        torch.save({"mark": mark, "state": state}, part)


def load(path: Path, mark: str, device: torch.device) -> dict | None:
    """The state of the same training; None where there is none, or where it is of another one, which is kept aside.

    Raises
    ------
    ValueError
        The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        # Nothing but tensors and plain values is ever unpickled: a file could otherwise run code.
        found = torch.load(path, map_location=device, weights_only=True)
        same = found["mark"] == mark
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise ValueError(f"{path}: damaged checkpoint ({type(error).__name__}); remove it to train anew") from error
    if same:
        return found["state"]
    aside = path.with_name(f"{path.stem}_of_another_training{path.suffix}")
    path.replace(aside)
    warnings.warn(
        f"{path.name} is of a training with other cases, settings, weights to start from or recipe: it is kept as "
        f"{aside.name}, and this training begins anew",
        stacklevel=3,
    )
    return None
