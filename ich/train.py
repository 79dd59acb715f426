"""Training: slices cached on the device, augmentation there, one visible loop. The test set is never touched."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from ich import checkpoint, distributed
from ich.augment import Draws, augment
from ich.batches import Batches
from ich.loss import segmentation_loss, slice_loss
from ich.model import Settings, channels, half_precision
from ich.recipe import Recipe
from ich.replay import Passes, replayed
from ich.training_errors import FiniteWatch, in_memory
from ich.training_slices import Slices, data_hash
from ich.training_state import TrainingState
from ich.validation import AT_ONCE, validate

LOOK_EVERY = 100  # steps between looks at whether the loss is still finite, each of which a GPU waits for


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
    share = distributed.share()
    if share.world > recipe.batch_size:
        raise ValueError(f"{share.world} processes share batches of {recipe.batch_size} slices: raise batch_size")
    mine = share.of(recipe.batch_size)
    device = slices.device
    state = TrainingState(settings, recipe, device, start)
    batches = Batches(slices, settings, recipe)
    kept, mark = None, ""
    if checkpoint_file and share.rank == 0:
        same = data or (data_hash(slices), data_hash(validation))
        mark = checkpoint.fingerprint(settings, recipe, same, checkpoint.weights_hash(start or {}), bool(renew))
        kept = checkpoint.load(checkpoint_file, mark, torch.device("cpu"))
    kept = distributed.as_the_first_has_it(kept)
    first = 1
    if kept:
        state.take_up(kept)
        first = kept["step"] + 1
        if renew:
            batches = Batches(renew(len(state.history)), settings, recipe)
        else:
            batches.hardness = kept["hardness"].to(device)
        for row in state.history if share.rank == 0 else []:
            report(row)
    network, random = state.network.train(), state.random
    run: Passes | None = None

    def passes(image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state.optimizer.zero_grad(set_to_none=True)
        with half_precision(device):
            logits = network(image)
        loss = segmentation_loss(logits, labels)
        loss.backward()
        return loss.detach(), logits.detach()

    loss_since, steps_since = torch.zeros((), device=device), 0
    watch = FiniteWatch(recipe.batch_size, device)
    for step in range(first, recipe.steps + 1):
        slices = batches.slices
        # A GPU's sums may differ in the last bit from those of the next, and with them what is drawn.
        rows = distributed.of_the_first(batches.draw(random))
        own = rows[mine]
        with in_memory(len(own), settings, device):
            stack, labels = augment(
                slices.hu_of(own), slices.labels_of(own), Draws(random, len(rows), mine), recipe.scanner_share
            )
            image = channels(stack, settings)
            run = run or replayed(network, passes, image.clone(), labels.clone(), device)
            loss, logits = run(image, labels)
            distributed.average_gradients(network)
            norm = torch.nn.utils.clip_grad_norm_(state.weights, 5.0)
            state.optimizer.step()
        state.schedule.step()
        state.average(step)
        if recipe.hard_share > 0:
            poorly = torch.zeros(len(rows), device=device)
            poorly[mine] = slice_loss(logits, labels)
            batches.hardness[rows] = distributed.summed(poorly)
        loss_since += loss
        steps_since += 1
        watch.see(step, rows, loss, norm)
        validates, last = step % recipe.validate_every == 0 or step == recipe.steps, step == recipe.steps
        if validates or step % LOOK_EVERY == 0:
            watch.check(slices, partial(state.keep_last_good, checkpoint_file and checkpoint_file.parent))
        if not validates:
            continue
        row = {
            "step": step,
            "loss": float(loss_since) / steps_since,
            "validation_dice": _score(state.averaged, validation, settings),
            "learning_rate": state.schedule.get_last_lr()[0],
        }
        state.validated(row)
        loss_since, steps_since = torch.zeros_like(loss_since), 0
        if share.rank == 0:
            report(row)
        if checkpoint_file and not last:
            if share.rank == 0:
                checkpoint.save(checkpoint_file, state.kept(step) | {"hardness": batches.hardness}, mark)
            distributed.wait()
        if renew and not last:
            batches = Batches(renew(len(state.history)), settings, recipe)
    if state.best_weights is not None:
        network.load_state_dict(state.best_weights)
    return network.eval(), pd.DataFrame(state.history)


def _score(network: torch.nn.Module, validation: Slices, settings: Settings) -> float:
    """`validate` by all processes, the same number in each."""
    with in_memory(AT_ONCE, settings, validation.device, fixed=True):
        score = validate(network, validation, settings, together=True)
    return float(distributed.of_the_first(torch.tensor(score, dtype=torch.float64, device=validation.device)))
