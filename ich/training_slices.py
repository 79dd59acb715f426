"""Scans and masks as a network sees them: the slices of many cases, side by side on the training device."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch

from ich.gpu import free_bytes
from ich.hounsfield import AIR_HU
from ich.model import Settings, crop, look_at, shows_head
from ich.scan import Grid, check_same_grid, read_mask, read_scan
from ich.slab import in_slabs
from ich.tables import LABELS

MOST_THREADS = 8  # that read scans: each of them computes with several of its own


@dataclass(frozen=True)
class Seen:
    """One case at network resolution: `hu` (K, H, W) int16, `labels` (K, H, W) uint8, `voxel_ml` (K,) float32, the
    volume of a pixel times its slice's weight, and `neighbors` (K, 2 * neighbors + 1) int64, which slices the network
    sees with each."""

    hu: np.ndarray
    labels: np.ndarray
    voxel_ml: np.ndarray
    neighbors: np.ndarray

    def of_the_head(self, settings: Settings) -> "Seen":
        """Without the slices beyond the head."""
        head = np.flatnonzero(shows_head(torch.from_numpy(self.hu), settings))
        kept = slice(head[0], head[-1] + 1) if len(head) else slice(0, len(self.hu))
        neighbors = self.neighbors[kept].clip(kept.start, kept.stop - 1) - kept.start
        return Seen(self.hu[kept], self.labels[kept], self.voxel_ml[kept], neighbors)


@dataclass(frozen=True)
class Slices:
    """Every slice of a split as the network sees it: on the training device where there is room, else in main memory.

    Attributes
    ----------
    hu : (N, H, W) int16.
    labels : (N, H, W) uint8, 0..3.
    neighbors : (N, 2 * neighbors + 1) slice numbers, never across cases.
    case : (N,) number of the case in `case_ids`.
    voxel_ml : (N,) volume of one network pixel times its slice's weight.
    case_ids : the cases in order.
    device : where the network computes, which may not be where the slices lie.
    patients : whose each case is; None where every case is of another patient.
    reference_ml : blood of each case in its mask as it is, where that was measured: small blood is less in network
        pixels.
    """

    hu: torch.Tensor
    labels: torch.Tensor
    neighbors: torch.Tensor
    case: torch.Tensor
    voxel_ml: torch.Tensor
    case_ids: tuple[str, ...]
    device: torch.device
    patients: tuple[str, ...] | None = None
    reference_ml: tuple[float, ...] | None = None

    def hu_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, 2 * neighbors + 1, H, W) float32 HU of slices (B,) and their neighbors, on `device`."""
        return self.hu[self.neighbors[rows.to(self.hu.device)]].to(self.device).float()

    def hu_batches(self, batch: int, rows: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """`hu_of` all slices, or of some, a batch at a time."""
        for part in (torch.arange(len(self.hu)) if rows is None else rows).split(batch):
            yield self.hu_of(part)

    def labels_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, H, W) int64 labels of slices (B,), on `device`."""
        return self.labels[rows.to(self.labels.device)].to(self.device).long()


def as_seen(hu: np.ndarray, labels: np.ndarray, grid: Grid, settings: Settings, device: str = "cpu") -> Seen:
    """A scan and its mask (I, J, K) at network resolution, resampled on `device`."""
    where = torch.device(device)
    view = look_at(hu, grid, settings)
    slabs, neighbors = in_slabs(crop(hu, view, settings, where, AIR_HU), grid, settings)
    small = slabs.round().clamp(-1024, 3071).to(torch.int16)
    # Averaging each label's indicator and taking the largest keeps volume; nearest-neighbor sampling would not.
    shares = torch.stack([crop((labels == label), view, settings, where, 0) for label in range(1, settings.classes)], 1)
    seen = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1).argmax(1).to(torch.uint8)
    voxel_ml = (grid.slice_weights_mm * settings.pixel_mm**2 / 1000).astype(np.float32)
    return Seen(small.cpu().numpy(), seen.cpu().numpy(), voxel_ml, neighbors.cpu().numpy())


def _load_case(case_id: str, image: Path, mask: Path, stated: object, settings: Settings) -> Seen:
    scan = read_scan(image)
    labels, grid = read_mask(mask)
    check_same_grid(case_id, scan.grid, grid)
    return as_seen(scan.hu, of_type(labels, stated), scan.grid, settings)


def of_type(labels: np.ndarray, stated: object) -> np.ndarray:
    """A mask that knows one label alone, 1, takes it from the hemorrhage type that the cohort states of its case.

    Where that is mixed, or not known, nothing says which of its blood is which, and it counts as parenchymal.
    """
    if stated in ("ventricular", "subarachnoid") and labels.max(initial=0) == 1:
        return labels * np.uint8(LABELS[str(stated)])
    return labels


def load_cases(cases: pd.DataFrame, folder: Path, settings: Settings) -> dict[str, Seen]:
    """Read the scans and masks of `cases` (columns case_id, image, reference_mask; paths from `folder`), whose binary
    masks are of the type in the column hemorrhage_type, if there is one.

    Raises
    ------
    ValueError
        There is no case, or none of them holds blood.
    ScanError
        Names the case whose mask and image differ in shape or affine.
    """
    if cases.empty:
        raise ValueError("no case to load: this split is empty")
    jobs = min(MOST_THREADS, joblib.effective_n_jobs(-1))
    loaded = joblib.Parallel(n_jobs=jobs, prefer="threads")(
        joblib.delayed(_load_case)(
            str(row.case_id), folder / str(row.image), folder / str(row.reference_mask), kind, settings
        )
        for row, kind in zip(cases.itertuples(), cases.get("hemorrhage_type", [None] * len(cases)), strict=True)
    )
    if not any(bool((seen.labels > 0).any()) for seen in loaded):
        raise ValueError(
            f"none of the {len(loaded)} cases of this split holds blood on {settings.size} x {settings.size} pixels of "
            f"{settings.pixel_mm:g} mm: nothing to learn"
        )
    return dict(zip(cases["case_id"], loaded, strict=True))


def load_slices(cases: pd.DataFrame, folder: Path, settings: Settings, device: torch.device) -> Slices:
    """The slices of `load_cases` on a device, with what `cases` has of patient_id and reference_volume_ml."""
    slices = side_by_side(load_cases(cases, folder, settings), settings, device)
    if "patient_id" in cases:
        slices = replace(slices, patients=tuple(cases["patient_id"]))
    return (
        replace(slices, reference_ml=tuple(cases["reference_volume_ml"])) if "reference_volume_ml" in cases else slices
    )


def side_by_side(cases: Mapping[str, Seen], settings: Settings, device: torch.device) -> Slices:
    """The slices of cases, by case id, on a device."""
    return joined(cases.values(), list(cases), [len(seen.hu) for seen in cases.values()], settings, device)


def joined(
    cases: Iterable[Seen], case_ids: list[str], lengths: list[int], settings: Settings, device: torch.device
) -> Slices:
    """The slices of cases that are read one after the other, with the number of slices of each.

    Filled in place: a list of thousands of cases and its concatenation would need twice the memory. Slices that would
    take more than half of what a GPU has free stay in main memory, with a warning: training needs room there too.
    """
    starts = np.cumsum([0, *lengths])
    shape = (int(starts[-1]), settings.size, settings.size)
    hu, labels = torch.empty(shape, dtype=torch.int16), torch.empty(shape, dtype=torch.uint8)
    voxel_ml, neighbors = torch.empty(shape[0]), torch.empty((shape[0], 2 * settings.neighbors + 1), dtype=torch.int64)
    for seen, start, length in zip(cases, starts, lengths, strict=False):
        rows = slice(int(start), int(start) + length)
        hu[rows], labels[rows] = torch.from_numpy(seen.hu), torch.from_numpy(seen.labels)
        voxel_ml[rows] = torch.from_numpy(seen.voxel_ml)
        neighbors[rows] = torch.from_numpy(seen.neighbors) + int(start)
    case = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    parts: dict[str, Any] = {
        "hu": hu, "labels": labels, "neighbors": neighbors, "case": case, "voxel_ml": voxel_ml,
    }  # fmt: skip
    size, free = sum(part.nbytes for part in parts.values()), free_bytes(device)
    if size > free / 2:
        warnings.warn(
            f"{len(case_ids)} cases take {size / 1e9:.1f} GB of slices and {device} has {free / 1e9:.1f} GB free: "
            "they stay in main memory and every batch is copied, which takes longer; n_training or network_size can "
            "make them fit",
            stacklevel=2,
        )
    else:
        parts = {name: part.to(device) for name, part in parts.items()}
    return Slices(**parts, case_ids=tuple(case_ids), device=device)


def absent_labels(slices: Slices, settings: Settings) -> list[str]:
    """Labels that no case of a split holds: a network cannot learn them."""
    return [
        name for name, label in LABELS.items() if label < settings.classes and not bool((slices.labels == label).any())
    ]


def data_hash(slices: Slices) -> str:
    """SHA-256 of the pixels and labels of a split."""
    # `data` is a view: the bytes of thousands of cases are not copied.
    digest = hashlib.sha256(slices.hu.cpu().contiguous().numpy().data)
    digest.update(slices.labels.cpu().contiguous().numpy().data)
    return digest.hexdigest()
