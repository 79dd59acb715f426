"""Masks on the native grid from a trained network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ich.calibration import AT_STAKE, count_bins, doubt
from ich.cohort import path_from_run
from ich.components import drop_specks
from ich.measure import masks_in
from ich.model import (
    AIR_HU,
    Settings,
    blood_probability,
    bottom_features,
    channels,
    crop,
    logits_of,
    look_at,
    neighbor_index,
    uncrop,
)
from ich.novelty import Familiar, scan_embedding
from ich.scan import Scan, ScanError, check_same_grid, read_mask, read_scan, write_mask

PREDICTED = ["case_id", "prediction", "network_ml", "uncertain_ml", "novelty"]


@dataclass(frozen=True)
class Prediction:
    """What a network says of a scan.

    Attributes
    ----------
    labels : (I, J, K) uint8 on the scan's own grid, 0 background, 1 parenchymal, 2 ventricular, 3 subarachnoid.
    embedding : (C,) the network's features of the scan, for `ich.novelty`.
    uncertain_ml : sum over voxels of p (1 - p) times their volume, p being the probability of blood.
    probability : (I, J, K) float16 probability of blood, 0 where every voxel of a slice is surely none; None unless
        asked for.
    """

    labels: np.ndarray
    volume_ml: float
    volume_by_label_ml: dict[int, float]
    uncertain_ml: float
    embedding: np.ndarray
    probability: np.ndarray | None = None


@torch.inference_mode()
def predict(
    network: torch.nn.Module, settings: Settings, scan: Scan, batch: int = 4, with_probability: bool = False
) -> Prediction:
    """Label every voxel of a scan.

    Logits are brought back to the scan's pixels before the largest is taken, so outlines follow the native grid.
    """
    device = next(network.parameters()).device
    view = look_at(scan.hu, scan.grid, settings)
    hu = crop(scan.hu, view, settings, device, AIR_HU)
    rows = neighbor_index(len(hu), settings.neighbors).to(device)
    labels = np.zeros(scan.hu.shape, np.uint8)
    wanted = with_probability or settings.certain_ml > 0
    probability = np.zeros(scan.hu.shape, np.float16) if wanted else None
    uncertain = torch.zeros(len(hu), device=device)
    features = []
    for numbers in torch.arange(len(hu), device=device).split(batch):
        with bottom_features(network) as seen:
            logits = logits_of(network, channels(hu[rows[numbers]], settings), settings)
        features.append(torch.stack(seen).mean(0))
        blood = blood_probability(logits.float(), settings)
        uncertain[numbers] = doubt(blood)
        # Most slices hold no blood: bringing them back to native pixels is skipped.
        keep = (logits[:, 1:] > logits[:, :1]).any(1).flatten(1).any(1)
        if with_probability:
            keep |= (blood > AT_STAKE).flatten(1).any(1)
        if bool(keep.any()):
            native, where = uncrop(logits[keep], view, scan.hu.shape[:2]), numbers[keep].cpu().numpy()
            labels[:, :, where] = native.argmax(1).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            if probability is not None:
                inside = uncrop(torch.ones_like(logits[:1, :1]), view, scan.hu.shape[:2])[:, 0]
                probability[:, :, where] = (blood_probability(native, settings) * inside).permute(1, 2, 0).cpu().numpy()
    if settings.smallest_ml > 0 or settings.certain_ml > 0:
        drop_specks(
            labels, scan.grid.voxel_ml, settings.smallest_ml, probability, settings.certain_ml, settings.certain
        )
    by_label = {label: scan.grid.volume_ml(labels == label) for label in range(1, settings.classes)}
    pixel_ml = float(np.prod(scan.grid.spacing_mm)) * np.prod(view.extent) / settings.size**2 / 1000
    uncertain_ml = float(uncertain.cpu().numpy() @ scan.grid.slice_weights_mm) * pixel_ml
    embedding = scan_embedding(torch.cat(features), hu, settings)
    return Prediction(
        labels, sum(by_label.values()), by_label, uncertain_ml, embedding, probability if with_probability else None
    )


def predict_cases(
    network: torch.nn.Module,
    settings: Settings,
    cases: pd.DataFrame,
    folder: Path,
    familiar: Familiar | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, list[pd.DataFrame]]:
    """Write `folder`/predictions/<case_id>.nii.gz for every case.

    Returns
    -------
    predictions : case_id, prediction (path from `folder`), network_ml, uncertain_ml, novelty (distance from the
        training cases over that of the farthest validation case; missing without `familiar`).
    failures : case_id, stage, reason; a scan that cannot be read stops nothing.
    bins : `count_bins` of each case whose reference mask lies on the scan's grid.
    """
    rows, failures, bins = [], [], []
    for case in cases.itertuples():
        path = Path("predictions") / f"{case.case_id}.nii.gz"
        try:
            scan = read_scan(folder / str(case.image))
        except (ScanError, OSError) as error:
            failures.append({"case_id": case.case_id, "stage": "prediction", "reason": str(error)})
            continue
        result = predict(network, settings, scan, with_probability=True)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_mask(folder / path, result.labels, scan.grid)
        rows.append(
            {
                "case_id": case.case_id,
                "prediction": str(path),
                "network_ml": result.volume_ml,
                "uncertain_ml": result.uncertain_ml,
                "novelty": familiar.distance(result.embedding) / familiar.limit if familiar else np.nan,
            }
        )
        try:
            reference, grid = read_mask(folder / str(case.reference_mask))
            check_same_grid(str(case.case_id), scan.grid, grid)
        except (ScanError, OSError):
            continue  # measuring meets the same mask next and tells of it
        if result.probability is not None:
            bins.append(count_bins(result.probability, reference > 0))
    return (
        pd.DataFrame(rows, columns=PREDICTED),
        pd.DataFrame(failures, columns=["case_id", "stage", "reason"]),
        bins,
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
