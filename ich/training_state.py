"""What a step of a training changes, and what is kept of it: networks, optimizer, schedule, random numbers, history."""

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from ich import distributed
from ich.model import Settings, build_network, save_weights
from ich.recipe import Recipe
from ich.training_errors import LAST_GOOD


class TrainingState:
    """A network in training, its averaged weights (EMA) and everything that the next step depends on.

    Attributes
    ----------
    network : what is trained. averaged : the mean of its weights over the last steps, which generalizes better than the
        last ones and costs one multiplication a step.
    random : generator on the device.
    history : rows of the validations so far. best_weights : the averaged weights of the best, None before the first.
    """

    def __init__(
        self,
        settings: Settings,
        recipe: Recipe,
        device: torch.device,
        start: dict[str, torch.Tensor] | None = None,
    ):
        self.settings, self.recipe = settings, recipe
        torch.manual_seed(recipe.seed)
        self.random = torch.Generator(device).manual_seed(recipe.seed)
        self.network = distributed.share_batch_norm(build_network(settings).to(device))
        if start is not None:
            self.network.load_state_dict(start)
        hold_biases_without_effect(self.network)
        self.averaged = deepcopy(self.network)
        self.weights = list(self.network.parameters())
        self._tracked, self._smoothed = _floats(self.network), _floats(self.averaged)
        self.optimizer = torch.optim.AdamW(
            self.weights,
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True if device.type == "cuda" else None,  # one kernel in the place of dozens
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.learning_rate, total_steps=recipe.steps
        )
        self.history: list[dict] = []
        self.best_weights: dict[str, torch.Tensor] | None = None

    @property
    def _parts(self) -> dict[str, Any]:
        names = ("network", "averaged", "optimizer", "schedule")
        return {name: getattr(self, name) for name in names}

    @property
    def best(self) -> dict:
        """Row of the best validation."""
        return max(self.history, key=lambda row: row["validation_dice"])

    def average(self, step: int) -> None:
        """Take the weights after a step into the averaged ones.

        The memory grows with the steps: a short training would end on half its first weights. torch's AveragedModel
        copies its own count of steps to the device at each of them, which a GPU has to wait for.
        """
        memory = min(self.recipe.ema_decay, step / (9 + step)) if step > 1 else 0.0
        torch._foreach_lerp_(self._smoothed, self._tracked, 1 - memory)

    def validated(self, row: dict) -> None:
        """Add the row of a validation of the averaged weights, which are kept where they are the best so far."""
        self.history.append(row)
        if self.best is row:
            self.best_weights = {name: value.clone() for name, value in self.averaged.state_dict().items()}

    def kept(self, step: int) -> dict:
        """Everything for a checkpoint after `step`."""
        return {name: part.state_dict() for name, part in self._parts.items()} | {
            "random": self.random.get_state(),
            "device": self.random.device.type,
            "step": step,
            "history": self.history,
            "best_weights": self.best_weights,
        }

    def take_up(self, kept: dict) -> None:
        """Go on from where a checkpoint was written."""
        for old, new in zip(kept["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
            old["fused"] = new["fused"]  # as suits this device, which may be of another kind
        for name, part in self._parts.items():
            part.load_state_dict(kept[name])
        device = self.random.device
        if kept["device"] == device.type:
            self.random.set_state(kept["random"])
        else:  # their generators have nothing in common
            self.random.manual_seed(self.recipe.seed + kept["step"])
            warnings.warn(
                f"the checkpoint of step {kept['step']} was written on {kept['device']}: the training goes on from it "
                f"on {device.type}, with other random numbers than it would have drawn there",
                stacklevel=3,
            )
        self.history = kept["history"]
        self.best_weights = {name: value.to(device) for name, value in kept["best_weights"].items()}

    def keep_last_good(self, folder: Path | None) -> str:
        """Write the best weights of a training that ends early where another can start from them; says what is kept.

        Parameters
        ----------
        folder : what the training writes into; None where it writes nothing.
        """
        if self.best_weights is None or folder is None:
            return "no weights were kept before it"
        best, model = self.best, folder / LAST_GOOD
        if distributed.share().rank == 0:
            self.network.load_state_dict(self.best_weights)
            row = {"best_step": best["step"], "validation_dice": best["validation_dice"]}
            save_weights(self.network, self.settings, model, **row)
        return f"the weights of step {best['step']} are in {model}, from where start_from goes on"


def hold_biases_without_effect(network: torch.nn.Module) -> None:
    """Keep biases of convolutions before a batch normalization, which takes the mean of its input away, as they are.

    Their gradient is 0 but for rounding, which Adam enlarges to whole steps. In bfloat16 they walked so far that too
    few digits were left for what differs (reports/checks/precision.csv).
    """
    for block in network.modules():
        after: Any = getattr(block, "adn", None)  # of MONAI's convolution blocks: activation, dropout, normalization
        if after is not None and any(isinstance(each, torch.nn.modules.batchnorm._BatchNorm) for each in after):
            before: Any = block.conv
            before.bias.requires_grad_(False)


def _floats(network: torch.nn.Module) -> list[torch.Tensor]:
    """Weights, and means and variances of batch normalization."""
    return [each.detach() for each in (*network.parameters(), *network.buffers()) if each.is_floating_point()]
