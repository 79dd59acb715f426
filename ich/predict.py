"""Masks on the native grid from a trained network."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ich import novelty
from ich.calibration import AT_STAKE, count_bins, doubt
from ich.components import drop_specks
from ich.gpu import devices, out_of_memory, processes
from ich.hounsfield import AIR_HU
from ich.measure import masks_in
from ich.model import (
    Settings,
    blood_probability,
    bottom_features,
    channels,
    choose_device,
    crop,
    largest,
    load_weights,
    logits_of,
    look_at,
    native_box,
    shows_head,
    uncrop,
)
from ich.novelty import Familiar
from ich.own_cases import path_from_run
from ich.parallel import each
from ich.scan import Scan, ScanError, check_same_grid, read_mask, read_scan, said_of, write_mask
from ich.slab import in_slabs

MOST_LOADED = 8  # weights kept at a time: a process is given scans for every GPU of the machine in turn
PREDICTED = ["case_id", "prediction", "network_ml", "uncertain_ml", "novelty"]


@dataclass(frozen=True, eq=False)
class Weights:
    """A network that is ready, with its settings and card: loaded once for any number of scans."""

    network: torch.nn.Module
    settings: Settings
    card: dict
    familiar: Familiar | None = None

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> "Weights":
        """Of a model folder; raises what `ich.model.load_weights` raises, and ValueError for uncalibrated weights."""
        network, settings, card = load_weights(folder, choose_device(device))
        if "volume_calibration" not in card:
            raise ValueError(
                f"{folder}: weights of a training that ended early, without volume_calibration: go on from them with "
                "start_from"
            )
        return cls(network, settings, card, novelty.load(folder, card.get("novelty_sha256")))


@lru_cache(maxsize=MOST_LOADED)
def _loaded(folder: Path, device: str, _written_ns: int) -> Weights:
    torch.set_flush_denormal(True)
    return Weights.load(folder, device)


def ready(folder: Path, device: str = "auto") -> Weights:
    """The weights of a model folder, kept in this process until several others are asked for or the folder changes."""
    card = folder / "settings.json"
    return _loaded(folder, device, card.stat().st_mtime_ns if card.is_file() else 0)


@dataclass(frozen=True)
class Prediction:
    """What a network says of a scan.

    Attributes
    ----------
    labels : (I, J, K) uint8 on the scan's own grid, 0 background, 1 parenchymal, 2 ventricular, 3 subarachnoid.
    embedding : (C,) the network's features of the scan, for `ich.novelty`.
    uncertain_ml : sum over voxels of p (1 - p) times their volume, p being the probability of blood.
    probability : (I, J, K) float16 probability of blood, 0 where there is surely none; None unless asked for.
    """

    labels: np.ndarray
    volume_ml: float
    volume_by_label_ml: dict[int, float]
    uncertain_ml: float
    embedding: np.ndarray
    probability: np.ndarray | None = None


@torch.inference_mode()
def predict(network: torch.nn.Module, settings: Settings, scan: Scan, with_probability: bool = False) -> Prediction:
    """Label every voxel of a scan.

    Logits are brought back to the scan's pixels before the largest is taken, so outlines follow the native grid. That
    is done only about pixels where blood is likelier than none: between others no voxel can be blood, as interpolated
    logits lie between those of their neighbors. Slices beyond the head are not looked at.
    """
    device = next(network.parameters()).device
    # A CPU is fast with what its caches hold; a GPU works faster than it is told to, so it is given a scan at once.
    batch = 4 if device.type == "cpu" else 32
    view = look_at(scan.hu, scan.grid, settings)
    hu, rows = in_slabs(crop(scan.hu, view, settings, device, AIR_HU), scan.grid, settings)
    labels = np.zeros(scan.hu.shape, np.uint8)
    wanted = with_probability or settings.certain_ml > 0
    probability = np.zeros(scan.hu.shape, np.float16) if wanted else None
    uncertain = torch.zeros(len(hu), device=device)
    head = shows_head(hu, settings)
    looked_at = (head if bool(head.any()) else ~head).nonzero().flatten()
    features, answers, marks = [], [], []
    for numbers in looked_at.split(batch):
        with bottom_features(network) as seen:
            logits = logits_of(network, channels(hu[rows[numbers]], settings), settings)
        features.append(torch.stack(seen).mean(0))
        blood = blood_probability(logits.float(), settings)
        uncertain[numbers] = doubt(blood)
        marked = (logits[:, 1:] > logits[:, :1]).any(1)
        answers.append(logits)
        marks.append(marked | (blood > AT_STAKE) if with_probability else marked)
    found = torch.cat(marks)
    box = native_box(found.any(0), view, scan.hu.shape[:2])
    bleeding = found.flatten(1).any(1)
    for numbers, logits in zip(
        looked_at[bleeding].split(batch), torch.cat(answers)[bleeding].split(batch), strict=True
    ):
        native, where = uncrop(logits, view, box), numbers.cpu().numpy()
        labels[(*box, where)] = largest(native).permute(1, 2, 0).cpu().numpy()
        if probability is not None:
            probability[(*box, where)] = blood_probability(native, settings).permute(1, 2, 0).cpu().numpy()
    if settings.smallest_ml > 0 or settings.certain_ml > 0:
        drop_specks(
            labels, scan.grid.voxel_ml, settings.smallest_ml, probability, settings.certain_ml, settings.certain,
            settings.certain_beside,
        )  # fmt: skip
    by_label = {label: scan.grid.volume_ml(labels == label) for label in range(1, settings.classes)}
    pixel_ml = float(np.prod(scan.grid.spacing_mm)) * np.prod(view.extent) / settings.size**2 / 1000
    uncertain_ml = float(uncertain.cpu().numpy() @ scan.grid.slice_weights_mm) * pixel_ml
    embedding = torch.cat(features).mean(0).float().cpu().numpy()
    return Prediction(
        labels, sum(by_label.values()), by_label, uncertain_ml, embedding, probability if with_probability else None
    )


def predict_cases(
    model_folder: Path, cases: pd.DataFrame, folder: Path, device: str = "auto", jobs: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame, list[pd.DataFrame]]:
    """Write `folder`/predictions/<case_id>.nii.gz for every case.

    Parameters
    ----------
    cases : case_id, image and reference_mask, paths from `folder`.
    jobs : processes, each with the network; `ich.gpu.processes` says how many share a GPU.

    Returns
    -------
    predictions : case_id, prediction (path from `folder`), network_ml, uncertain_ml, novelty (distance from the
        training cases over that of the farthest validation case; missing where the weights cannot tell).
    failures : case_id, stage, reason; a scan that cannot be read stops nothing.
    bins : `count_bins` of each case whose reference mask lies on the scan's grid, with its case_id.
    """
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    jobs = processes(choose_device(device), jobs)
    records = cases[["case_id", "image", "reference_mask"]].to_dict("records")
    places = cycle(devices(choose_device(device), jobs))
    work = [(model_folder, place, case, folder) for case, place in zip(records, places, strict=False)]
    rows: list[dict] = []
    failures: list[dict] = []
    bins: list[pd.DataFrame] = []
    for row, counted in each(_predict_case, work, jobs, what="scans predicted", dead=_died):
        (failures if "reason" in row else rows).append(row)
        bins += [] if counted is None else [counted]
    return (
        pd.DataFrame(rows, columns=PREDICTED),
        pd.DataFrame(failures, columns=["case_id", "stage", "reason"]),
        bins,
    )


def _failed(case: dict, reason: str) -> tuple[dict, None]:
    return {"case_id": case["case_id"], "stage": "prediction", "reason": reason}, None


def _died(model_folder: Path, device: str, case: dict, folder: Path) -> tuple[dict, None]:
    return _failed(case, "the process that read this scan died: a damaged file, too little memory or no end")


def _predict_case(model_folder: Path, device: str, case: dict, folder: Path) -> tuple[dict, pd.DataFrame | None]:
    weights = ready(model_folder, device)
    path = Path("predictions") / f"{case['case_id']}.nii.gz"
    image = folder / str(case["image"])
    try:
        scan = read_scan(image)
        result = predict(weights.network, weights.settings, scan, with_probability=True)
    except (ScanError, OSError) as error:
        return _failed(case, said_of(error, image))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return _failed(case, f"does not fit into what memory is left (jobs=1 leaves more): {said_of(error, image)}")
    write_mask(folder / path, result.labels, scan.grid)
    familiar = weights.familiar
    row = {
        "case_id": case["case_id"],
        "prediction": str(path),
        "network_ml": result.volume_ml,
        "uncertain_ml": result.uncertain_ml,
        "novelty": familiar.distance(result.embedding) / familiar.limit if familiar else np.nan,
    }
    try:
        reference, grid = read_mask(folder / str(case["reference_mask"]))
        check_same_grid(str(case["case_id"]), scan.grid, grid)
    except (ScanError, OSError):
        return row, None  # measuring meets the same mask next and tells of it
    if result.probability is None:
        return row, None
    return row, count_bins(result.probability, reference > 0).assign(case_id=case["case_id"])


def given_predictions(
    cases: pd.DataFrame, folder: Path, run_dir: Path, known: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Masks that another tool or a reader made, `folder`/<case_id>.nii.gz, in the place of `predict_cases`.

    Parameters
    ----------
    known : cases that have a reference and are not looked at here: excluded, or of another split.

    Returns
    -------
    predictions : case_id, prediction (path from `run_dir`); a case without a file is not in it.
    failures : case_id, stage, reason of files that no case wants.

    Raises
    ------
    ValueError
        The folder holds no mask.
    """
    files = masks_in(folder)
    wanted = set(cases["case_id"])
    rows = [(case, path_from_run(path, run_dir)) for case, path in files.items() if case in wanted]
    unwanted = [
        (case, "prediction", "prediction without a reference") for case in files if case not in wanted.union(known)
    ]
    return (
        pd.DataFrame(rows, columns=["case_id", "prediction"], dtype="str"),
        pd.DataFrame(unwanted, columns=["case_id", "stage", "reason"], dtype="str"),
    )


def require_compared(cases: pd.DataFrame, metrics: pd.DataFrame, failed: pd.DataFrame) -> None:
    """ValueError where no prediction could be compared with its reference: all that follows would be of none."""
    if "reader" in metrics and (metrics["reader"] == "network").any():
        return
    said = [f"{row.case_id}: {row.reason}" for row in failed.head(1).itertuples()]
    raise ValueError(
        f"of {len(cases)} test cases none has a predicted mask that can be compared with its reference "
        f"({'; '.join(said) or 'no mask was predicted'}); the reasons are in tables/exclusions.csv"
    )
