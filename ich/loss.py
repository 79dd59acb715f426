"""What training makes small."""

import torch
import torch.nn.functional as F

from ich.distributed import share, summed


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus soft Dice over the batch, of each label present and of blood as a whole.

    Processes that share a batch all get the loss of the whole of it.

    Parameters
    ----------
    logits : (B, classes, H, W). labels : (B, H, W) int64.

    Source: soft Dice, Milletari et al. 2016. Blood as a region of its own, as in region-based training (Isensee et al.,
    BraTS 2020): where two labels meet, calling blood by the wrong label costs less than missing it.
    """
    logits = logits.float()
    if share().world == 1:
        cross_entropy = F.cross_entropy(logits, labels)
    else:
        n = summed(torch.full((), float(labels.numel()), device=labels.device))
        cross_entropy = summed(F.cross_entropy(logits, labels, reduction="sum")) / n
    probability = _regions(logits.softmax(1))
    target = _regions(F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float())
    axes = (0, 2, 3)
    both, found, wanted = (summed(each.sum(axes)) for each in (probability * target, probability, target))
    dice = (2 * both + 1) / (found + wanted + 1)
    present = wanted > 0
    # A sum that leaves absent labels out, not an `if`: asking whether any is present would make a GPU wait.
    mean_dice = (dice * present).sum() / present.sum().clamp(min=1)
    return cross_entropy + present.any() - mean_dice


def slice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B,) mean cross-entropy of each slice, never so small that the slice would not come again."""
    return (
        F.cross_entropy(logits.float(), labels, reduction="none")
        .mean((1, 2))
        .nan_to_num(0.0, posinf=0.0)
        .clamp(min=1e-4)
    )


def _regions(shares: torch.Tensor) -> torch.Tensor:
    """(B, classes, H, W) shares of each class to (B, classes, H, W): each label, then blood as a whole."""
    return torch.cat([shares[:, 1:], 1 - shares[:, :1]], 1)
