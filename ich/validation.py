"""How well a network labels a split at its own resolution: what a training chooses its weights by."""

import torch

from ich import distributed
from ich.model import Settings, channels, largest, logits_of
from ich.training_slices import Slices

FALSE_ML = 0.1  # of blood where there is none: what the score of a case halves at
AT_ONCE = 16  # slices


@torch.no_grad()
def predict_slices(
    network: torch.nn.Module, slices: Slices, settings: Settings, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """(N, H, W) uint8 label of every slice, or of some, at network resolution, where the slices lie."""
    network.eval()
    out = []
    for stack in slices.hu_batches(AT_ONCE, rows):
        logits = logits_of(network, channels(stack, settings), settings)
        out.append(largest(logits).to(slices.hu.device))
    return torch.cat(out)


def case_volumes(labels: torch.Tensor, slices: Slices) -> torch.Tensor:
    """(cases,) ml of blood of each case in labels (N, H, W) at network resolution."""
    per_slice = (labels > 0).flatten(1).sum(1) * slices.voxel_ml
    return torch.zeros(len(slices.case_ids), device=labels.device).index_add_(0, slices.case, per_slice)


def validate(network: torch.nn.Module, slices: Slices, settings: Settings, together: bool = False) -> float:
    """Mean over cases of Dice of blood, averaged with the mean over labels present, at network resolution, 0..1.

    A case without blood counts 0.1 ml over (0.1 ml + what is marked on it): Dice would be 0 whether a speck or a
    hematoma is marked.

    Parameters
    ----------
    together : every process of a shared training calls this at once, and each predicts its part of the slices.
    """
    if together and distributed.share().world > 1:
        mine = torch.arange(len(slices.hu))[distributed.share().of(len(slices.hu))]
        predicted = torch.zeros_like(slices.labels)
        predicted[mine.to(predicted.device)] = predict_slices(network, slices, settings, mine)
        predicted = distributed.summed(predicted)
    else:
        predicted = predict_slices(network, slices, settings)

    def sums(mask: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(slices.case_ids), device=mask.device)
        return total.index_add_(0, slices.case, mask.flatten(1).sum(1).float())

    def dice(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return 2 * sums(a & b) / (sums(a) + sums(b))

    bleeds = sums(slices.labels > 0) > 0
    clean = FALSE_ML / (FALSE_ML + case_volumes(predicted, slices))
    scores = [torch.where(bleeds, dice(slices.labels > 0, predicted > 0), clean).mean()]
    for label in range(1, settings.classes):
        reference = slices.labels == label
        present = sums(reference) > 0
        if bool(present.any()):
            scores.append(dice(reference, predicted == label)[present].mean())
    return float((scores[0] + torch.stack(scores[1:]).mean()) / 2)
