"""From a trained network to a model folder, and the training of a run without its notebook."""

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from ich import distributed, novelty, splits, tables, train
from ich.atomic import locked, replacing
from ich.calibration import calibrate, uncalibrated
from ich.model import Ensemble, Settings, choose_device, load_weights, save_weights
from ich.recipe import Recipe
from ich.run_folder import done_in, lock
from ich.seen import check_unseen, scans_seen
from ich.stream import embedded_stream
from ich.training_errors import in_memory
from ich.training_slices import Slices, absent_labels, load_cases, load_slices
from ich.validation import AT_ONCE, validate

USE = "research only; not a medical device"
NOT_TESTED = "patients, scanners and hospitals other than those of its own study"
NOT_TESTED_SIMULATED = "any patient or real scan: its study is a simulated one"


@dataclass(frozen=True, eq=False)
class Start:
    """What a training begins with: the `state` of a network, None for weights at random, and its settings and card."""

    state: dict[str, torch.Tensor] | None
    settings: Settings
    card: dict


def begin(start_from: str, settings: Settings, run: Path) -> Start:
    """The network of a model folder, with its own settings; one of the given settings where none is named.

    Raises
    ------
    ValueError
        Pixels were asked for that are neither the usual ones nor those of the network, or it has seen scans that the
        split of the run keeps from it.
    """
    if not start_from:
        return Start(None, settings, {})
    network, found, card = load_weights(Path(start_from), torch.device("cpu"))
    usual = Settings()
    if (settings.pixel_mm, settings.size) not in {(usual.pixel_mm, usual.size), (found.pixel_mm, found.size)}:
        raise ValueError(
            f"{start_from}: its network has pixel_mm={found.pixel_mm:g} and network_size={found.size}, asked for are "
            f"{settings.pixel_mm:g} and {settings.size}: leave them out, or train without start_from"
        )
    check_unseen(card, run, start_from)
    return Start(network.state_dict(), uncalibrated(found), card)


def take_over(folder: Path, run: Path) -> None:
    """Copy the network of another study into a run that tests it.

    Raises
    ------
    ValueError, FileNotFoundError
        It is no model folder, or its network has seen scans that the split of the run keeps from it.
    """
    card = load_weights(folder, torch.device("cpu"))[2]
    check_unseen(card, run, folder.name)
    for name in filter(None, ("weights.safetensors", card.get("novelty_sha256") and novelty.FILE, "settings.json")):
        with replacing(run / "model" / name) as part:
            shutil.copyfile(folder / name, part)


def training_cases(run: Path, n_training: int = 0) -> dict[str, pd.DataFrame]:
    """The cases that a training learns from and is chosen on, by split.

    Parameters
    ----------
    n_training : of the training split, the first ones; 0 for all.
    """
    taught = splits.open_split(run, "train")
    return {"train": taught.head(n_training or len(taught)), "validation": splits.open_split(run, "validation")}


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
    settings : as `calibrate` returns them.
    """
    with in_memory(AT_ONCE, settings, validation.device, fixed=True):
        settings, volume_calibration = calibrate(network, validation, settings)
        familiar = novelty.fit(network, training, validation, settings)
    best = history.iloc[int(history["validation_dice"].argmax())]
    written = {
        "best_step": int(best["step"]),
        "validation_dice": round(float(best["validation_dice"]), 4),
        "volume_calibration": volume_calibration,
        "novelty_sha256": novelty.save(familiar, folder) if familiar else None,
        "use": USE,
        "not_tested": NOT_TESTED,
        "absent_labels": absent_labels(training, settings),
    }
    save_weights(network, settings, folder, **written | card)
    return settings


def card_of(
    cases: Mapping[str, pd.DataFrame], training: Slices, start: Start, recipe: Recipe, n_simulated: int
) -> dict:
    """What settings.json says of a training on cases of a run, by split, for `keep`.

    Parameters
    ----------
    training : slices of those of the training split and of simulated cases beside them.
    """
    taught = cases["train"]
    data = ", ".join(sorted(taught["source"].unique()))
    if n_simulated:
        data += f" and simulated cases beside it, {n_simulated} at a time"
    before = start.card.get("trained_on")
    return {
        "trained_on": f"{before}; then on {data}" if before else data,
        "not_tested": NOT_TESTED_SIMULATED if taught["simulated"].all() else NOT_TESTED,
        "simulated": bool(taught["simulated"].all()) and start.card.get("simulated", True),
        "absent_labels": absent_labels(training, start.settings),  # who met them before forgets them
        "recipe": vars(recipe),
        "started_from": start.card.get("sha256"),
        "training_data_sha256": splits.fingerprint(taught),
        "scans_seen": scans_seen(cases, [start.card]),
    }


def data_of(cases: Mapping[str, pd.DataFrame], n_simulated: int) -> str:
    """What makes the data of a training the same: its cases by split, and how many simulated ones are beside them."""
    return " ".join([*(f"{name} {splits.fingerprint(part)}" for name, part in sorted(cases.items())), str(n_simulated)])


def check_trained_on(card: dict, cases: pd.DataFrame) -> None:
    """Refuse a network trained on other cases than this run's training split: it may have seen the test cases.

    Raises
    ------
    ValueError
        The scans or masks that it was trained on are others than those of `cases`, rows of `ich.splits.open_split`.
    """
    if card.get("training_data_sha256") != splits.fingerprint(cases):
        raise ValueError(
            "model/ was trained on other cases than this run's training split, so test cases may be among them: run "
            "`ich train` after 01_cohort has written this split, with the parameters of 02 that this run has"
        )


def _check_without_results(run: Path) -> None:
    """Refuse to put another network into a run that has results of its own one."""
    if "02_training" in done_in(run):
        raise FileExistsError(
            f"{run.name} holds results of the network that it has: train in a run of another name "
            "(`ich study ... --name NAME --until 01_cohort` makes one)"
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
        There is one run only or one twice, the networks see scans in different ways, or one was trained on a patient,
        or has seen a scan, that the first run validates or tests on.
    """
    _check_without_results(out.resolve().parent)
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run was given: an ensemble takes two or more")
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("a run was given twice: its network would count twice")
    where = choose_device(device)
    loaded = [load_weights(run / "model", where) for run in runs]
    settings = uncalibrated(loaded[0][1])
    cases = training_cases(runs[0])
    kept_apart = {"validates": cases["validation"], "tests": splits.open_split(runs[0], "test")}
    for run, (_, other, card) in zip(runs, loaded, strict=True):
        mine, theirs = vars(uncalibrated(other)), vars(settings)
        if unlike := [f"{key}={mine[key]} instead of {theirs[key]}" for key in mine if mine[key] != theirs[key]]:
            raise ValueError(f"{run.name}: its network has {', '.join(unlike)}, unlike that of {runs[0].name}")
        # Scans too: where nobody states the patients, runs may number the same ones in different orders.
        check_unseen(card, runs[0], run.name)
        taught = splits.open_split(run, "train")
        for use, held in kept_apart.items():
            met = held["case_id"][held["patient_id"].isin(taught["patient_id"])]
            if len(met):
                raise ValueError(
                    f"{run.name}: trained on patients that {runs[0].name} {use} on, such as that of {met.min()}"
                )
    settings = replace(settings, members=len(runs))
    network = Ensemble([network for network, _, _ in loaded]).eval()
    training, validation = (load_slices(part, runs[0], settings, where) for part in cases.values())
    score = validate(network, validation, settings)
    history = pd.DataFrame([{"step": max(card["best_step"] for _, _, card in loaded), "validation_dice": score}])
    keep(
        network, settings, training, validation, history, out,
        trained_on=loaded[0][2]["trained_on"], simulated=any(card["simulated"] for _, _, card in loaded),
        members_sha256=[card["sha256"] for _, _, card in loaded],
        scans_seen=scans_seen({}, [card for _, _, card in loaded]),
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

    Raises
    ------
    FileExistsError : the run holds results of the network that it has.
    TimeoutError : another process works in the run.
    """
    with locked(lock(run), f"run {run.name}") if distributed.is_first() else nullcontext():
        return _train_run(run, parameters, report)


def _train_run(run: Path, parameters: dict, report: Callable[[dict], None]) -> pd.DataFrame:
    _check_without_results(run)
    given = Settings(pixel_mm=parameters["pixel_mm"], size=parameters["network_size"])
    start = begin(parameters["start_from"], given, run)
    settings = start.settings
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
        cases = training_cases(run, parameters["n_training"])
        base = load_cases(cases["train"], run, settings)
        validation = load_slices(cases["validation"], run, settings, device)
        with embedded_stream(base, parameters["n_simulated"], settings, device, recipe.seed) as stream:
            training = stream(0)
            network, history = train.train(
                training, validation, settings, recipe, report, checkpoint_file, start.state, stream.renew,
                data_of(cases, parameters["n_simulated"]),
            )  # fmt: skip
        if distributed.share().rank == 0:
            tables.write(history, run / "tables" / "training.csv")
            card = card_of(cases, training, start, recipe, parameters["n_simulated"])
            keep(network, settings, training, validation, history, run / "model", **card)
            for label in card["absent_labels"]:
                warnings.warn(
                    f"no training case is labeled {label}: the network does not learn, or forgets, to mark blood as it",
                    stacklevel=2,
                )
            checkpoint_file.unlink(missing_ok=True)
        distributed.wait()
    return history
