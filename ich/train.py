"""Training: slices cached on the device, augmentation there, one visible loop. The test set is never touched."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ich import checkpoint, distributed
from ich.augment import Draws, augment
from ich.loss import segmentation_loss, slice_loss
from ich.model import Settings, build_network, channels, half_precision, largest, logits_of, save_weights
from ich.tables import LABELS
from ich.training_errors import LAST_GOOD, FiniteWatch, in_memory
from ich.training_slices import Slices, data_hash

FALSE_ML = 0.1  # of blood where there is none: what the score of a case halves at
LOOK_EVERY = 100  # steps between looks at whether the loss is still finite, each of which a GPU waits for
VALIDATED_AT_ONCE = 16  # slices
UNSEEN_LOSS = 0.01  # hardness of a slice not yet seen: more than that of one well labeled


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


def _batch(
    slices: Slices, recipe: Recipe, blood: torch.Tensor, hardness: torch.Tensor, random: torch.Generator
) -> torch.Tensor:
    """Slice numbers of one batch; those with blood are drawn so that each label present comes equally often."""
    n_blood, n_hard = (round(share * recipe.batch_size) for share in (recipe.positive_share, recipe.hard_share))
    n_hard = min(n_hard, recipe.batch_size - n_blood)  # both may round up
    n_others = recipe.batch_size - n_blood - n_hard
    anywhere = torch.randint(len(slices.hu), (n_others,), generator=random, device=blood.device)
    drawn = [anywhere]
    if n_blood:
        drawn.insert(0, torch.multinomial(blood, n_blood, replacement=True, generator=random))
    if n_hard:
        drawn.append(torch.multinomial(hardness, n_hard, replacement=True, generator=random))
    return torch.cat(drawn)


def _blood_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """(N,) sampling weight of each slice: every label's slices share one unit between them."""
    weights = torch.zeros(len(labels), device=labels.device)
    for label in range(1, classes):
        present = (labels == label).flatten(1).any(1).float()
        weights += present / present.sum().clamp(min=1)
    return weights


def _drawn_from(slices: Slices, settings: Settings) -> tuple[Slices, torch.Tensor, torch.Tensor]:
    """Slices with the weights that `_batch` draws them by, before any of them was seen."""
    hardness = torch.full((len(slices.hu),), UNSEEN_LOSS, device=slices.device)
    return slices, _blood_weights(slices.labels, settings.classes).to(slices.device), hardness


@torch.no_grad()
def predict_slices(
    network: torch.nn.Module, slices: Slices, settings: Settings, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """(N, H, W) uint8 label of every slice, or of some, at network resolution, where the slices lie."""
    network.eval()
    out = []
    for stack in slices.hu_batches(VALIDATED_AT_ONCE, rows):
        logits = logits_of(network, channels(stack, settings), settings)
        out.append(largest(logits).to(slices.hu.device))
    return torch.cat(out)


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


def absent_labels(slices: Slices, settings: Settings) -> list[str]:
    """Labels that no case of a split holds: a network cannot learn them."""
    return [
        name for name, label in LABELS.items() if label < settings.classes and not bool((slices.labels == label).any())
    ]


def _floats(network: torch.nn.Module) -> list[torch.Tensor]:
    """Weights, and means and variances of batch normalization."""
    return [each.detach() for each in (*network.parameters(), *network.buffers()) if each.is_floating_point()]


def _take_up(kept: dict, parts: dict[str, Any], random: torch.Generator, recipe: Recipe) -> None:
    """Bring networks, optimizer, schedule and random numbers to where a checkpoint has them."""
    for old, new in zip(kept["optimizer"]["param_groups"], parts["optimizer"].param_groups, strict=True):
        old["fused"] = new["fused"]  # as suits this device, which may be of another kind
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    if kept["device"] == random.device.type:
        random.set_state(kept["random"])
    else:  # their generators have nothing in common
        random.manual_seed(recipe.seed + kept["step"])
        warnings.warn(
            f"the checkpoint of step {kept['step']} was written on {kept['device']}: the training goes on from it on "
            f"{random.device.type}, with other random numbers than it would have drawn there",
            stacklevel=3,
        )


def _keep_last_good(
    network: torch.nn.Module, settings: Settings, state: dict | None, history: list[dict], checkpoint_file: Path | None
) -> str:
    """Write the best weights of a training that ends early where another can start from them; says what is kept."""
    if state is None or checkpoint_file is None:
        return "no weights were kept before it"
    folder, best = checkpoint_file.parent / LAST_GOOD, max(history, key=lambda row: row["validation_dice"])
    if distributed.share().rank == 0:
        network.load_state_dict(state)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(network, settings, folder, best_step=best["step"], validation_dice=best["validation_dice"])
    return f"the weights of step {best['step']} are in {folder}, from where start_from goes on"


def train(
    slices: Slices,
    validation: Slices,
    settings: Settings,
    recipe: Recipe,
    report: Callable[[dict], None] = lambda row: None,
    checkpoint_file: Path | None = None,
    start: dict[str, torch.Tensor] | None = None,
    renew: Callable[[int], Slices] | None = None,
    data: str | None = None,
) -> tuple[torch.nn.Module, pd.DataFrame]:
    """Train on `slices`, keep the averaged weights that are best on `validation`.

    Processes that have `distributed.joined` share every batch; all have all slices and end with the same weights, the
    first one reports and writes the checkpoint.

    Parameters
    ----------
    report : called with each row of the history.
    checkpoint_file : written at each validation; a training of the same data, settings and recipe goes on from it and
        ends, on one CPU thread, with the same weights to the last bit. The caller removes it.
    start : weights to go on from, of a network with the same settings; None starts anew.
    renew : called after each validation but the last with the number of validations so far; the slices that it returns
        are those of the training from then on.
    data : what makes the data the same for the checkpoint; without it the slices themselves do, which another processor
        may have resampled to another last digit.

    Returns
    -------
    network : best network, in evaluation mode.
    history : one row per validation: step, loss (mean since the last row), validation_dice, learning_rate.

    Raises
    ------
    ich.training_errors.LossNotFinite
        Names the first step and the cases of its batch. The weights of the best validation before it are a model folder
        beside the checkpoint, `LAST_GOOD`, for `start`.
    ich.training_errors.BatchTooLarge
        Says which batch to try.
    ValueError
        The checkpoint is damaged, or there are more processes than slices in a batch.
    """
    device = slices.device
    share = distributed.share()
    if share.world > recipe.batch_size:
        raise ValueError(f"{share.world} processes share batches of {recipe.batch_size} slices: raise batch_size")
    mine = share.of(recipe.batch_size)
    torch.manual_seed(recipe.seed)
    random = torch.Generator(device).manual_seed(recipe.seed)
    network = distributed.share_batch_norm(build_network(settings).to(device))
    if start is not None:
        network.load_state_dict(start)
    hold_biases_without_effect(network)
    # Averaged weights (EMA) generalize better than the last ones and cost one multiplication a step.
    averaged = deepcopy(network)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        fused=True if device.type == "cuda" else None,  # one kernel in the place of dozens
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    slices, blood, hardness = _drawn_from(slices, settings)
    parts: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    kept, mark = None, ""
    if checkpoint_file and share.rank == 0:
        same = data or (data_hash(slices), data_hash(validation))
        mark = checkpoint.fingerprint(settings, recipe, same, checkpoint.weights_hash(start or {}), bool(renew))
        kept = checkpoint.load(checkpoint_file, mark, torch.device("cpu"))
    kept = distributed.as_the_first_has_it(kept)
    first, best = 1, -1.0
    history: list[dict] = []
    best_state: dict[str, torch.Tensor] | None = None
    if kept:
        _take_up(kept, parts, random, recipe)
        hardness = kept["hardness"].to(device)
        first, history, best = kept["step"] + 1, kept["history"], kept["best"]
        best_state = {name: value.to(device) for name, value in kept["best_state"].items()}
        if renew and history:
            slices, blood, hardness = _drawn_from(renew(len(history)), settings)
        for row in history if share.rank == 0 else []:
            report(row)
    weights, tracked, smoothed = list(network.parameters()), _floats(network), _floats(averaged)
    network.train()
    running = torch.zeros((), device=device)
    watch = FiniteWatch(recipe.batch_size, device)
    since = 0
    for step in range(first, recipe.steps + 1):
        # A GPU's sums may differ in the last bit from those of the next, and with them what is drawn.
        rows = distributed.of_the_first(_batch(slices, recipe, blood, hardness, random))
        own = rows[mine]
        with in_memory(len(own), settings, device):
            stack, labels = augment(
                slices.hu_of(own), slices.labels_of(own), Draws(random, len(rows), mine), recipe.scanner_share
            )
            with half_precision(device):
                logits = network(channels(stack, settings))
            loss = segmentation_loss(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            distributed.average_gradients(network)
            norm = torch.nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()
        schedule.step()
        # The memory grows with the steps: a short training would end on half its first weights. torch's AveragedModel
        # copies its own count of steps to the device at each of them, which a GPU has to wait for.
        decay = min(recipe.ema_decay, step / (9 + step)) if step > 1 else 0.0
        torch._foreach_lerp_(smoothed, tracked, 1 - decay)
        if recipe.hard_share > 0:
            poorly = torch.zeros(len(rows), device=device)
            poorly[mine] = slice_loss(logits.detach(), labels)
            hardness[rows] = distributed.summed(poorly)
        running += loss.detach()
        watch.see(step, rows, loss, norm)
        since += 1
        validates = step % recipe.validate_every == 0 or step == recipe.steps
        if validates or step % LOOK_EVERY == 0:
            watch.check(slices, partial(_keep_last_good, network, settings, best_state, history, checkpoint_file))
        if validates:
            with in_memory(VALIDATED_AT_ONCE, settings, device, fixed=True):
                score = validate(averaged, validation, settings, together=True)
            scored = torch.tensor(score, dtype=torch.float64, device=device)
            score = float(distributed.of_the_first(scored))
            row = {
                "step": step,
                "loss": float(running) / since,
                "validation_dice": score,
                "learning_rate": schedule.get_last_lr()[0],
            }
            history.append(row)
            if share.rank == 0:
                report(row)
            running.zero_()
            since = 0
            if score > best:
                best = score
                best_state = {name: value.clone() for name, value in averaged.state_dict().items()}
            if checkpoint_file and step < recipe.steps:
                state = {name: part.state_dict() for name, part in parts.items()}
                state |= {
                    "random": random.get_state(),
                    "device": device.type,
                    "step": step,
                    "history": history,
                    "hardness": hardness,
                }
                if share.rank == 0:
                    checkpoint.save(checkpoint_file, state | {"best": best, "best_state": best_state}, mark)
                distributed.wait()
            if renew and step < recipe.steps:
                slices, blood, hardness = _drawn_from(renew(len(history)), settings)
    if best_state is not None:
        network.load_state_dict(best_state)
    return network.eval(), pd.DataFrame(history)
