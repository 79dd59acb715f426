"""Masks on the native grid from a trained network, and the interval of their volume."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ich.cohort import path_from_run
from ich.components import bounding_box, label_components
from ich.measure import masks_in
from ich.model import AIR_HU, Settings, channels, crop, logits_of, look_at, neighbor_index, uncrop
from ich.scan import Grid, Scan, ScanError, read_scan, write_mask


@dataclass(frozen=True)
class Prediction:
    """labels : (I, J, K) uint8 on the scan's own grid, 0 background, 1 parenchymal, 2 ventricular, 3 subarachnoid."""

    labels: np.ndarray
    volume_ml: float
    volume_by_label_ml: dict[int, float]


@torch.inference_mode()
def predict(network: torch.nn.Module, settings: Settings, scan: Scan, batch: int = 4) -> Prediction:
    """Label every voxel of a scan.

    Logits are brought back to the scan's pixels before the largest is taken, so outlines follow the native grid.
    """
    device = next(network.parameters()).device
    view = look_at(scan.hu, scan.grid, settings)
    hu = crop(scan.hu, view, settings, device, AIR_HU)
    rows = neighbor_index(len(hu), settings.neighbors).to(device)
    labels = np.zeros(scan.hu.shape, np.uint8)
    for numbers in torch.arange(len(hu), device=device).split(batch):
        logits = logits_of(network, channels(hu[rows[numbers]], settings), settings)
        # Most slices hold no blood: bringing them back to native pixels is skipped.
        keep = (logits[:, 1:] > logits[:, :1]).any(1).flatten(1).any(1)
        if bool(keep.any()):
            native = uncrop(logits[keep], view, scan.hu.shape[:2]).argmax(1).to(torch.uint8)
            labels[:, :, numbers[keep].cpu().numpy()] = native.permute(1, 2, 0).cpu().numpy()
    if settings.smallest_ml > 0:
        drop_specks(labels, scan.grid, settings.smallest_ml)
    by_label = {label: scan.grid.volume_ml(labels == label) for label in range(1, settings.classes)}
    return Prediction(labels, sum(by_label.values()), by_label)


def drop_specks(labels: np.ndarray, grid: Grid, smallest_ml: float) -> None:
    """Unmark, in place, connected blood of less than `smallest_ml`; an empty mask stays empty.

    Blood of all labels is connected as one: a thin clot beside a hematoma is not a speck.
    """
    box = bounding_box(labels > 0)
    parts, found = label_components(labels[box] > 0)
    for number, part in enumerate(found, start=1):
        inside = parts[part] == number
        if grid.voxel_ml[box[2]][part[2]] @ np.count_nonzero(inside, axis=(0, 1)) < smallest_ml:
            labels[box][part][inside] = 0


def volume_interval(volume_ml: float, calibration: dict) -> tuple[float, float] | None:
    """Split conformal prediction interval of a volume in ml; None where the validation split was too small for one.

    `calibration` is what `train.volume_calibration` returned.
    """
    if calibration["factor"] is None:
        return None
    half = calibration["factor"] * (volume_ml + 1)
    return max(0.0, volume_ml - half), volume_ml + half


def predict_cases(
    network: torch.nn.Module, settings: Settings, cases: pd.DataFrame, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write `folder`/predictions/<case_id>.nii.gz for every case.

    Returns
    -------
    predictions : case_id, prediction (path from `folder`), network_ml.
    failures : case_id, stage, reason; a scan that cannot be read stops nothing.
    """
    rows, failures = [], []
    for case in cases.itertuples():
        path = Path("predictions") / f"{case.case_id}.nii.gz"
        try:
            scan = read_scan(folder / str(case.image))
        except (ScanError, OSError) as error:
            failures.append({"case_id": case.case_id, "stage": "prediction", "reason": str(error)})
            continue
        result = predict(network, settings, scan)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_mask(folder / path, result.labels, scan.grid)
        rows.append({"case_id": case.case_id, "prediction": str(path), "network_ml": result.volume_ml})
    return (
        pd.DataFrame(rows, columns=["case_id", "prediction", "network_ml"]),
        pd.DataFrame(failures, columns=["case_id", "stage", "reason"]),
    )


def given_predictions(cases: pd.DataFrame, folder: Path, run_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Masks that another tool or a reader made, `folder`/<case_id>.nii.gz, in the place of `predict_cases`.

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
    unwanted = [(case, "prediction", "prediction without a reference") for case in files if case not in wanted]
    return (
        pd.DataFrame(rows, columns=["case_id", "prediction"], dtype="str"),
        pd.DataFrame(unwanted, columns=["case_id", "stage", "reason"], dtype="str"),
    )
