"""Which slices each batch of a training is drawn from."""

import torch

from ich.model import Settings
from ich.recipe import Recipe
from ich.training_slices import Slices

UNSEEN_LOSS = 0.01  # hardness of a slice not yet seen: more than that of one well labeled


class Batches:
    """Draws slice numbers in the shares of a recipe; those with blood so that each label present comes equally often.

    Attributes
    ----------
    hardness : (N,) loss of each slice when it was last seen, where the network computes.
    """

    def __init__(self, slices: Slices, settings: Settings, recipe: Recipe):
        self.slices, size = slices, recipe.batch_size
        self._n_blood, n_hard = (round(share * size) for share in (recipe.positive_share, recipe.hard_share))
        self._n_hard = min(n_hard, size - self._n_blood)  # both may round up
        self._n_others = size - self._n_blood - self._n_hard
        self.hardness = torch.full((len(slices.hu),), UNSEEN_LOSS, device=slices.device)
        self._blood = _blood_weights(slices.labels, settings.classes).to(slices.device)

    def draw(self, random: torch.Generator) -> torch.Tensor:
        """(batch_size,) slice numbers."""
        anywhere = torch.randint(len(self.hardness), (self._n_others,), generator=random, device=self._blood.device)
        drawn = [anywhere]
        if self._n_blood:
            drawn.insert(0, torch.multinomial(self._blood, self._n_blood, replacement=True, generator=random))
        if self._n_hard:
            drawn.append(torch.multinomial(self.hardness, self._n_hard, replacement=True, generator=random))
        return torch.cat(drawn)


def _blood_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """(N,) sampling weight of each slice: every label's slices share one unit between them."""
    weights = torch.zeros(len(labels), device=labels.device)
    for label in range(1, classes):
        present = (labels == label).flatten(1).any(1).float()
        weights += present / present.sum().clamp(min=1)
    return weights
