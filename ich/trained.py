"""From a trained network to a model folder, and the training of a run without its notebook."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from ich import distributed, novelty, splits, tables, train
from ich.calibration import calibrate
from ich.model import Ensemble, Settings, choose_device, load_weights, save_weights
from ich.stream import embedded_stream
from ich.train import Recipe
from ich.training_slices import Slices, data_hash, load_cases, load_slices

USE = "research only; not a medical device"


def keep(
    network: torch.nn.Module,
    settings: Settings,
    training: Slices,
    validation: Slices,
    history: pd.DataFrame,
    folder: Path,
    **card: object,
) -> Settings:
    """Calibrate on validation, learn what training scans look like, and write the model folder.

    Parameters
    ----------
    history : of `train.train`. card : what settings.json says besides, such as what the network was trained on.

    Returns
    -------
    settings : with the temperature found.
    """
    settings, volume_calibration = calibrate(network, validation, settings)
    familiar = novelty.fit(network, training, validation, settings)
    best = history.iloc[int(history["validation_dice"].argmax())]
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(
        network,
        settings,
        folder,
        best_step=int(best["step"]),
        validation_dice=round(float(best["validation_dice"]), 4),
        volume_calibration=volume_calibration,
        novelty_sha256=novelty.save(familiar, folder),
        use=USE,
        **card,
    )
    return settings


def begin(start_from: str, settings: Settings) -> tuple[dict[str, torch.Tensor] | None, Settings, str | None]:
    """Weights to go on from, their settings and SHA-256; no weights and the given settings where there are none."""
    if not start_from:
        return None, settings, None
    network, settings, card = load_weights(Path(start_from), torch.device("cpu"))
    return network.state_dict(), replace(settings, temperature=1.0), card["sha256"]


def check_trained_on(card: dict, training: Slices) -> None:
    """Refuse a network trained on other cases than this run's training split: it may have seen the test cases.

    Raises
    ------
    ValueError
        The pixels that it was trained on are others than those of `training`.
    """
    if card.get("training_data_sha256") != data_hash(training):
        raise ValueError(
            "model/ was trained on other slices than this run's training split, so test cases may be among them: run "
            "`ich train` after 01_cohort has written this split, with the parameters of 02 that this run has"
        )


def ensemble(runs: Sequence[Path], out: Path, device: str = "auto") -> float:
    """Put the networks of finished trainings together into one model folder, calibrated on the first run's validation.

    Parameters
    ----------
    runs : run folders, such as those of several seeds on one cohort.
    out : model folder, to be used like that of a single network.

    Returns
    -------
    Validation Dice of the ensemble.

    Raises
    ------
    ValueError
        There is one run only, the networks see scans in different ways, or one was trained on a validation case of the
        first run.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run was given: an ensemble takes two or more")
    where = choose_device(device)
    loaded = [load_weights(run / "model", where) for run in runs]
    settings = replace(loaded[0][1], temperature=1.0)
    cases = {name: splits.open_split(runs[0], name) for name in ("train", "validation")}
    for run, (_, other, _) in zip(runs, loaded, strict=True):
        if replace(other, temperature=1.0) != settings:
            raise ValueError(f"{run.name}: its network has {other}, that of {runs[0].name} {settings}")
        seen = set(splits.open_split(run, "train")["patient_id"]) & set(cases["validation"]["patient_id"])
        if seen:
            raise ValueError(
                f"{run.name}: trained on {len(seen)} patients that {runs[0].name} validates on, such as {min(seen)}"
            )
    settings = replace(settings, members=len(runs))
    network = Ensemble([network for network, _, _ in loaded]).eval()
    training, validation = (load_slices(part, runs[0], settings, where) for part in cases.values())
    score = train.validate(network, validation, settings)
    history = pd.DataFrame([{"step": max(card["best_step"] for _, _, card in loaded), "validation_dice": score}])
    keep(
        network, settings, training, validation, history, out,
        trained_on=loaded[0][2]["trained_on"], simulated=any(card["simulated"] for _, _, card in loaded),
        members_sha256=[card["sha256"] for _, _, card in loaded],
    )  # fmt: skip
    return score


def train_run(run: Path, parameters: dict, report: Callable[[dict], None]) -> pd.DataFrame:
    """What 02_training does, without its figures: alone, or as one of the processes that torchrun started.

    Parameters
    ----------
    run : folder that 01_cohort has filled. parameters : those of 02_training.

    Returns
    -------
    The learning curve; the first process has written it to tables/training.csv, and the network to model/.
    """
    given = Settings(pixel_mm=parameters["pixel_mm"], size=parameters["network_size"])
    start, settings, started_from = begin(parameters["start_from"], given)
    recipe = Recipe(
        steps=parameters["steps"],
        batch_size=parameters["batch_size"],
        learning_rate=parameters["learning_rate"],
        validate_every=parameters["validate_every"],
        scanner_share=parameters["scanner_share"],
        seed=parameters["training_seed"],
    )
    torch.set_num_threads(parameters["threads"])
    torch.set_flush_denormal(True)
    checkpoint_file = run / "model" / "checkpoint.pt"
    with distributed.joined(parameters["device"]) as device:
        cases = {name: splits.open_split(run, name) for name in ("train", "validation")}
        if parameters["n_training"]:
            cases["train"] = cases["train"].head(parameters["n_training"])
        base = load_cases(cases["train"], run, settings)
        validation = load_slices(cases["validation"], run, settings, device)
        with embedded_stream(base, parameters["n_simulated"], settings, device, recipe.seed) as stream:
            training = stream(0)
            network, history = train.train(
                training, validation, settings, recipe, report, checkpoint_file, start, stream.renew
            )
        if distributed.share().rank == 0:
            tables.write(history, run / "tables" / "training.csv")
            keep(
                network, settings, training, validation, history, run / "model",
                trained_on=", ".join(sorted(cases["train"]["source"].unique())),
                simulated=bool(cases["train"]["simulated"].any()), simulated_cases_beside=parameters["n_simulated"],
                recipe=vars(recipe), started_from=started_from, training_data_sha256=data_hash(training),
            )  # fmt: skip
            checkpoint_file.unlink(missing_ok=True)
        distributed.wait()
    return history
