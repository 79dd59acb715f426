"""The embedded cohort: simulated head CT with bleeds of known volume. Case i depends on the seed and i alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ich import bleeds
from ich.anatomy import Field, template
from ich.atomic import replacing, write_text
from ich.bleeds import Bleed
from ich.head import Head, draw_head
from ich.parallel import each
from ich.render import render
from ich.scan import Grid, write_mask, write_scan
from ich.scanner import Acquisition, blur, degrade, draw_acquisition

VERSION = 4  # raised when a seed gives other scans than before: written cases of another version are made anew
TYPE_SHARES = {"parenchymal": 0.62, "ventricular": 0.12, "subarachnoid": 0.10, "mixed": 0.16}
FOLLOW_UP_EVERY = 8  # the last of every eight indices is a later scan of the patient before it
VISIBLE_HU = 43.0  # noise-free HU that blood in CSF needs to be outlined


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


@dataclass(frozen=True, eq=False)
class Patient:
    """Whose head it is, with its bleeds at the time of a scan."""

    patient_id: str
    hemorrhage_type: str
    head: Head
    parts: tuple[Bleed, ...]
    scan_date: str


def _owner(index: int) -> int:
    """Index of the case whose patient this case is: its own, or that of the case before if it is a follow-up."""
    return index - 1 if index % FOLLOW_UP_EVERY == FOLLOW_UP_EVERY - 1 else index


def hemorrhage_type(seed: int, index: int) -> str:
    """Type of case `index`: parenchymal, ventricular, subarachnoid or mixed."""
    rng = np.random.default_rng([seed, _owner(index), 0])
    return str(rng.choice(list(TYPE_SHARES), p=list(TYPE_SHARES.values())))


def draw_patient(seed: int, index: int, maps: Field) -> Patient:
    """The patient of case `index`; a follow-up has the head and hematoma of the case before, grown or shrunk."""
    owner = _owner(index)
    kind = hemorrhage_type(seed, index)
    rng = np.random.default_rng([seed, owner, 1])
    later = np.random.default_rng([seed, index, 2])
    growth = float(np.exp(later.normal(0.1, 0.3))) if owner != index else 1.0
    day = np.datetime64("2019-01-01") + int(rng.integers(0, 365))
    if owner != index:
        day += int(later.integers(1, 6))
    wide_csf = {"parenchymal": (0.0, 0.0), "subarachnoid": (0.7, 1.3)}.get(kind, (0.4, 1.0))
    head = draw_head(rng, wide_csf=float(rng.uniform(*wide_csf)))
    parts: list[Bleed] = []
    both = kind == "mixed" and rng.random() < 0.2
    with_sah = kind == "subarachnoid" or both or (kind == "mixed" and rng.random() < 0.25)
    with_ivh = kind == "ventricular" or both or (kind == "mixed" and not with_sah)
    if kind in ("parenchymal", "mixed"):
        part, head = bleeds.parenchymal(rng, head, maps, growth, deep=with_ivh)
        parts.append(part)
    if with_ivh:
        parts.append(bleeds.ventricular(rng, head, maps, growth, parts))
    if with_sah:
        parts.append(bleeds.subarachnoid(rng, head, maps, growth, parts))
    return Patient(f"simulated-{owner:04d}", kind, head, tuple(parts), str(day))


def outline(
    shares: torch.Tensor,
    hu: torch.Tensor,
    level: float | torch.Tensor = 0.5,
    visible_hu: float | torch.Tensor = VISIBLE_HU,
) -> torch.Tensor:
    """Labels (K, I, J) from shares of blood (3, K, I, J): where blood prevails, its largest kind.

    Thin blood in sulci and ventricles is outlined where it is bright: noise-free `hu` is above `visible_hu` and no
    neighbor belongs to bone.
    """
    total = shares.sum(0)
    seen = (hu > visible_hu) & (F.max_pool2d(hu[:, None], 3, 1, 1)[:, 0] < 95)
    in_csf = shares[1:].sum(0) > shares[0]
    blood = torch.where(in_csf, (total > level - 0.1) & seen, total > level)
    return torch.where(blood, shares.argmax(0) + 1, 0).to(torch.uint8)


def _second_reader(
    shares: torch.Tensor, hu: torch.Tensor, rng: np.random.Generator, random: torch.Generator, pixel_mm: float
) -> torch.Tensor:
    """Another reader's outline: a bias of the edge, slow differences along it, and now and then a missed end slice."""
    n, h, w = shares.shape[1:]
    smoothed = torch.stack([blur(part, 1.0 / pixel_mm) for part in shares])
    coarse = [round(length * pixel_mm / 11) + 2 for length in (h, w)]
    wobble = torch.randn((1, 1, n, *coarse), generator=random).to(shares.device)
    wobble = F.interpolate(wobble, (n, h, w), mode="trilinear", align_corners=False)[0, 0]
    level = (0.5 + rng.normal(0, 0.06) + 0.13 * wobble).clamp_(0.15, 0.85)
    visible = VISIBLE_HU + rng.normal(0, 1.5) + 3.0 * wobble
    labels = outline(smoothed, hu, level, visible)
    blood = torch.nonzero((labels > 0).flatten(1).any(1)).flatten()
    if len(blood) > 4 and rng.random() < 0.25:
        labels[int(blood[0] if rng.random() < 0.5 else blood[-1])] = 0
    return labels


def _read_twice(
    hu: torch.Tensor, shares: torch.Tensor, acquisition: Acquisition, rng: np.random.Generator, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outlines (K, I, J) of both readers, drawn where there is blood."""
    n, h, w = hu.shape
    labels, second = (torch.zeros((n, h, w), dtype=torch.uint8, device=hu.device) for _ in range(2))
    blood = torch.nonzero(shares.amax(0) > 0.05)
    if len(blood):
        reach = torch.tensor([1, *2 * [round(6 / acquisition.pixel_mm)]], device=hu.device)
        low = (blood.amin(0) - reach).clamp(min=0).tolist()
        high = (blood.amax(0) + reach + 1).tolist()
        cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        seen = blur(hu[cut], acquisition.blur_mm / acquisition.pixel_mm)
        labels[cut] = outline(shares[(slice(None), *cut)], seen)
        second[cut] = _second_reader(shares[(slice(None), *cut)], seen, rng, random, acquisition.pixel_mm)
    return labels, second


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread, so that sums have one order, and no denormals, which are slow; threads as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def make_case(seed: int, index: int, size: int = 256, device: str = "cpu") -> Case:
    """Case `index` of the cohort with this seed; it does not depend on how many others are made.

    Every eighth case is a follow-up scan of the patient before it: the same head and hematoma, grown or shrunk,
    scanned anew.

    Parameters
    ----------
    size : pixels on a side; the field of view is 222 to 250 mm whatever the size.
    """
    visit = np.random.default_rng([seed, index, 3])
    random = torch.Generator().manual_seed(int(visit.integers(2**62)))
    with torch.no_grad(), one_thread():
        patient = draw_patient(seed, index, template("cpu"))
        acquisition = draw_acquisition(visit, size)
        hu, shares = render(patient.head, patient.parts, acquisition, device)
        labels, second = _read_twice(hu, shares, acquisition, visit, random)
        hu = degrade(hu, acquisition, random).round_().clamp_(-1024, 3071)
        axis = torch.arange(size, device=device) - (size - 1) / 2
        outside = axis[:, None] ** 2 + axis[None] ** 2 > (size / 2) ** 2
        hu[:, outside] = acquisition.padding_hu
    volumes = {label: sum(part.volume_ml for part in patient.parts if part.label == label) for label in (1, 2, 3)}

    def to_array(stack: torch.Tensor, dtype: type) -> np.ndarray:
        return stack.permute(1, 2, 0).cpu().numpy().astype(dtype)  # (K, I, J) to (I, J, K)

    return Case(
        case_id=f"phantom-{index:04d}",
        patient_id=patient.patient_id,
        hu=to_array(hu, np.int16),
        labels=to_array(labels, np.uint8),
        second_reader=to_array(second, np.uint8),
        grid=acquisition.grid(),
        hemorrhage_type=patient.hemorrhage_type,
        true_volume_ml=volumes,
        scan_date=patient.scan_date,
    )


def _write_case(out: Path, seed: int, index: int, size: int, device: str) -> dict:
    """Write one case unless it is there; its row is written last and marks it complete."""
    key = {"seed": seed, "index": index, "size": size, "version": VERSION}
    row_path = out / "rows" / f"phantom-{index:04d}.json"
    if row_path.is_file():
        row = json.loads(row_path.read_text())
        if row.pop("key") == key:
            return row
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
    write_text(row_path, json.dumps({**row, "key": key}))
    return row


def write_cohort(out: Path, n: int, seed: int, size: int = 256, jobs: int = -1, device: str = "cpu") -> pd.DataFrame:
    """Write cases 0..n-1 as NIfTI with their masks and cases.csv; cases already written are kept.

    Cases beyond n that an earlier call has written are removed: cases.csv would not list them.

    Returns
    -------
    cases.csv: case_id, patient_id, image, reference_mask, second_mask (paths from `out`), scan_date, hemorrhage_type,
    true_volume_ml and the true volume of each kind.
    """
    work = [(out, seed, index, size, device) for index in range(n)]
    rows = sorted(each(_write_case, work, jobs, what="simulated cases"), key=lambda row: row["case_id"])
    for left in set((out / "rows").glob("*.json")) - {out / "rows" / f"{row['case_id']}.json" for row in rows}:
        for name in ("images", "masks", "second_reader"):
            (out / name / f"{left.stem}.nii.gz").unlink(missing_ok=True)
        left.unlink()
    table = pd.DataFrame(rows)
    with replacing(out / "cases.csv") as part:
        table.to_csv(part, index=False)
    return table
