"""The embedded cohort: simulated head CT with bleeds of known volume. Case i depends on the seed and i alone."""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ich.anatomy import OUTSIDE_MM, Template, template
from ich.bleeding import draw_bleeds
from ich.bleeds import FINE_MM, Bleed
from ich.head import Head, draw_head, pushed, tissue_hu
from ich.scan import Grid, write_mask, write_scan
from ich.scanner import Acquisition, blur, degrade, draw_acquisition

VERSION = 2  # raised when the same seed would give other scans; written cases of another version are made anew
TYPE_SHARES = {"parenchymal": 0.62, "ventricular": 0.12, "subarachnoid": 0.10, "mixed": 0.16}
FOLLOW_UP_EVERY = 8  # the last of every eight indices is a later scan of the patient before it


@dataclass(frozen=True, eq=False)
class Case:
    """One simulated scan.

    Attributes
    ----------
    hu : (I, J, K) int16. labels, second_reader : (I, J, K) uint8, 0..3.
    true_volume_ml : ml by label, summed on the fine grid before slicing.
    """

    case_id: str
    patient_id: str
    hu: np.ndarray
    labels: np.ndarray
    second_reader: np.ndarray
    grid: Grid
    hemorrhage_type: str
    true_volume_ml: dict[int, float]
    scan_date: str


def _near(points_mm: torch.Tensor, part: Bleed) -> tuple[slice, slice] | None:
    """Rows and columns of a plane of points (I, J, 3) that lie in a bleed's box; None if none does."""
    low = torch.as_tensor(part.low_mm, dtype=torch.float32, device=points_mm.device)
    high = low + (torch.tensor(part.share.shape, device=points_mm.device) - 1) * FINE_MM
    # A plane is affine in i and j, so every fourth point tells the box to within four pixels.
    inside = ((points_mm[::4, ::4] >= low - 4) & (points_mm[::4, ::4] <= high + 4)).all(-1)
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    if not len(rows):
        return None
    return (
        slice(max(0, 4 * int(rows[0]) - 4), 4 * int(rows[-1]) + 5),
        slice(max(0, 4 * int(columns[0]) - 4), 4 * int(columns[-1]) + 5),
    )


def _sample_box(values: torch.Tensor, low_mm: np.ndarray, points_mm: torch.Tensor) -> torch.Tensor:
    """Trilinear values of fine-grid arrays (C, X, Y, Z) at head points (..., 3); zero beyond the box."""
    device = points_mm.device
    size = torch.tensor(values.shape[1:], device=device) - 1
    low = torch.as_tensor(low_mm, dtype=torch.float32, device=device)
    unit = ((points_mm - low) / FINE_MM / size * 2 - 1).flip(-1)
    found = F.grid_sample(values[None], unit.reshape(1, 1, 1, -1, 3), padding_mode="zeros", align_corners=True)
    return found.reshape(len(values), *points_mm.shape[:-1])


def _warped(head: Head, points_mm: torch.Tensor, mass: tuple[np.ndarray, float] | None) -> torch.Tensor:
    """MNI points (I, J, 3) of a plane of head points: the smooth warp is evaluated at every fourth pixel."""
    # `_render` gives 4 n + 1 rows and columns, so that the corners of the coarse plane are those of the fine one.
    coarse = points_mm[::4, ::4]
    source = coarse if mass is None else pushed(coarse, *mass)
    moved = head.to_template(source).permute(2, 0, 1)[None]
    return F.interpolate(moved, points_mm.shape[:2], mode="bilinear", align_corners=True)[0].permute(1, 2, 0)


def _near_head(maps: Template, mni: torch.Tensor) -> torch.Tensor:
    """Which points (I, J) of a plane lie in the head or its rest: air around it need not be looked up."""
    coarse = maps.sample(mni[::8, ::8])[OUTSIDE_MM] < 32
    grown = F.max_pool2d(coarse[None, None].float(), 3, stride=1, padding=1)
    return F.interpolate(grown, mni.shape[:2], mode="nearest")[0, 0] > 0


def _render(
    head: Head,
    parts: list[Bleed],
    acquisition: Acquisition,
    maps: Template,
    random: torch.Generator,
    device: str,
):
    """HU (K, H, W) and shares of blood by label (3, K, H, W), float32, foot to head."""
    size, n = acquisition.size, len(acquisition.steps_mm)
    hu = torch.full((n, size, size), -1000.0, device=device)
    shares = torch.zeros((3, n, size, size), device=device)
    half = (size - 1) / 2
    # The head with its scalp and rest reaches about 86 x 112 mm from its center.
    reach = np.array([88, 116]) / acquisition.pixel_mm
    middle = half - acquisition.center_mm[:2] / acquisition.pixel_mm
    boxes = []
    for m, r in zip(middle, reach, strict=True):
        start = max(0, int(m - r))
        boxes.append(slice(start, start + (min(size, int(m + r) + 1) - start - 1) // 4 * 4 + 1))
    largest = max((part for part in parts if part.label == 1), key=lambda part: part.volume_ml, default=None)
    blobs = []
    for part in parts:
        layers = [torch.from_numpy(part.share)]
        texture = torch.randn((1, 1, *[s // 6 + 2 for s in part.share.shape]), generator=random)
        layers.append(
            F.interpolate(texture, part.share.shape, mode="trilinear", align_corners=True)[0, 0] * part.texture
        )
        if part.edema_mm is not None:
            layers.append(torch.exp(-((torch.from_numpy(part.edema_mm) / part.edema_width_mm) ** 2)))
        blobs.append(torch.stack(layers).to(device))
    mass = None
    if largest is not None and largest.volume_ml > 3:
        where = np.argwhere(largest.share > 0.5)
        mass = (largest.low_mm + where.mean(0) * FINE_MM, largest.volume_ml)

    n_sub = 2
    for k in range(n):
        total = torch.zeros((boxes[0].stop - boxes[0].start, boxes[1].stop - boxes[1].start), device=device)
        for sub in range(n_sub):
            shift = ((sub + 0.5) / n_sub - 0.5) * float(acquisition.thickness_mm[k])
            points = acquisition.points(k, shift, boxes[0], boxes[1], device)
            mni = _warped(head, points, mass)
            inside = _near_head(maps, mni)
            found = maps.sample(mni[inside])
            value = torch.full(inside.shape, -1000.0, device=device)
            value[inside] = tissue_hu(head, found, mni[inside])
            outside = torch.full(inside.shape, 99.0, device=device)
            outside[inside] = found[OUTSIDE_MM]
            for part, blob in zip(parts, blobs, strict=True):
                near = _near(points, part)
                if near is None:
                    continue
                layer = _sample_box(blob, part.low_mm, points[near])
                here = value[near]
                if part.edema_mm is not None:
                    here = here - 10 * layer[2] * (outside[near] < -2) * (here > 12)
                value[near] = here * (1 - layer[0]) + (part.hu + layer[1]) * layer[0]
                shares[part.label - 1, k, boxes[0], boxes[1]][near] += layer[0] / n_sub
            total += value.clamp(-1000, 1600)
        hu[k, boxes[0], boxes[1]] = total / n_sub
    return hu, shares


def _outline(shares: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Labels (K, H, W) from shares of blood by label (3, K, H, W): where blood prevails, its largest kind."""
    first, second, third = shares
    largest = torch.where(third > torch.maximum(first, second), 3, torch.where(second > first, 2, 1))
    return torch.where(first + second + third > level, largest, 0).to(torch.uint8)


def _second_reader(shares: torch.Tensor, rng: np.random.Generator, random: torch.Generator) -> torch.Tensor:
    """Another reader's outline: a bias of the edge, slow differences along it, and now and then a missed end slice."""
    n, h, w = shares.shape[1:]
    smoothed = torch.stack([blur(part, 1.2) for part in shares])
    wobble = torch.randn((1, 1, n, h // 12 + 2, w // 12 + 2), generator=random).to(shares.device)
    wobble = F.interpolate(wobble, (n, h, w), mode="trilinear", align_corners=False)[0, 0]
    labels = _outline(smoothed, (0.5 + rng.normal(0, 0.06) + 0.13 * wobble).clamp(0.15, 0.85))
    blood = torch.nonzero((labels > 0).flatten(1).any(1)).flatten()
    if len(blood) > 4 and rng.random() < 0.25:
        labels[int(blood[0] if rng.random() < 0.5 else blood[-1])] = 0
    return labels


def _kind(rng: np.random.Generator) -> str:
    return str(rng.choice(list(TYPE_SHARES), p=list(TYPE_SHARES.values())))


def make_case(seed: int, index: int, size: int = 256, device: str = "cpu") -> Case:
    """Case `index` of the cohort with this seed; it does not depend on how many others are made.

    Every eighth case is a follow-up scan of the patient before it: the same head and hematoma, grown or shrunk,
    scanned anew.

    Parameters
    ----------
    size : pixels on a side; the field of view is 222 to 250 mm whatever the size.
    """
    follow_up = index % FOLLOW_UP_EVERY == FOLLOW_UP_EVERY - 1
    owner = index - 1 if follow_up else index
    patient = np.random.default_rng([seed, owner, 0])
    visit = np.random.default_rng([seed, index, 1])
    random = torch.Generator().manual_seed(int(visit.integers(2**62)))
    maps = template(device)
    growth = float(np.exp(visit.normal(0.12, 0.3))) if follow_up else 1.0
    kind = _kind(patient)
    with torch.no_grad():
        head = draw_head(patient)
        parts = draw_bleeds(patient, kind, head, maps, growth)
        acquisition = draw_acquisition(visit, size)
        hu, shares = _render(head, parts, acquisition, maps, random, device)
        hu = degrade(hu, acquisition, random).round().clamp(-1024, 3071)
        labels = _outline(shares, torch.tensor(0.5, device=device))
        second = _second_reader(shares, visit, random)
    volumes = {label: sum(part.volume_ml for part in parts if part.label == label) for label in (1, 2, 3)}
    day = np.datetime64("2019-01-01") + int(patient.integers(0, 365)) + (int(visit.integers(1, 6)) if follow_up else 0)
    to_array = lambda stack, dtype: stack.permute(1, 2, 0).cpu().numpy().astype(dtype)  # noqa: E731 (K, I, J) to (I, J, K)
    return Case(
        case_id=f"phantom-{index:04d}",
        patient_id=f"simulated-{owner:04d}",
        hu=to_array(hu, np.int16),
        labels=to_array(labels, np.uint8),
        second_reader=to_array(second, np.uint8),
        grid=acquisition.grid(),
        hemorrhage_type=kind,
        true_volume_ml=volumes,
        scan_date=str(day),
    )


@contextmanager
def _rendering():
    """One thread, so that sums have one order, and no denormals, which are slow; as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def _write_case(out: Path, seed: int, index: int, size: int, device: str) -> dict:
    """Write one case unless it is there; its row is written last and marks it complete."""
    key = {"seed": seed, "index": index, "size": size, "version": VERSION}
    row_path = out / "rows" / f"phantom-{index:04d}.json"
    if row_path.is_file():
        row = json.loads(row_path.read_text())
        if row.pop("key") == key:
            return row
    with _rendering():
        case = make_case(seed, index, size, device)
    paths = {name: f"{name}/{case.case_id}.nii.gz" for name in ("images", "masks", "second_reader")}
    write_scan(out / paths["images"], case.hu, case.grid)
    write_mask(out / paths["masks"], case.labels, case.grid)
    write_mask(out / paths["second_reader"], case.second_reader, case.grid)
    row = {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "image": paths["images"],
        "reference_mask": paths["masks"],
        "second_mask": paths["second_reader"],
        "scan_date": case.scan_date,
        "hemorrhage_type": case.hemorrhage_type,
        "true_volume_ml": sum(case.true_volume_ml.values()),
        "true_parenchymal_ml": case.true_volume_ml[1],
        "true_ventricular_ml": case.true_volume_ml[2],
        "true_subarachnoid_ml": case.true_volume_ml[3],
    }
    temporary = row_path.with_name(row_path.name + ".tmp")
    temporary.write_text(json.dumps({**row, "key": key}))
    os.replace(temporary, row_path)
    return row


def write_cohort(out: Path, n: int, seed: int, size: int = 256, jobs: int = -1, device: str = "cpu") -> pd.DataFrame:
    """Write cases 0..n-1 as NIfTI with their masks and cases.csv; cases already written are kept.

    Returns
    -------
    cases.csv: case_id, patient_id, image, reference_mask, second_mask (paths from `out`), scan_date, hemorrhage_type,
    true_volume_ml and the true volume of each kind.
    """
    for name in ("images", "masks", "second_reader", "rows"):
        (out / name).mkdir(parents=True, exist_ok=True)
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_write_case)(out, seed, index, size, device) for index in range(n)
    )
    rows = list(tqdm(work, total=n, desc="simulated cases", mininterval=10, ascii=True))
    table = pd.DataFrame(rows)
    table.to_csv(out / "cases.csv", index=False)
    return table
