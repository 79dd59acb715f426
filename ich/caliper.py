"""ABC/2 as a reader measures it at the screen: A, B and the weight of every slice, kept in readers.csv."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from ich import tables
from ich.atomic import locked
from ich.grid import Grid

SLICE_WEIGHTS = (0.0, 0.5, 1.0)
LOCK_WAIT_S = 5.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Reading:
    """One reader's ABC/2 of one case. Points are (i, j) in voxels of the index slice, whole numbers pixel centers.

    Weights follow Kothari's bedside rule, judged by eye: 1 for a slice with over 75 % of the index slice's area,
    0.5 for 25 to 75 %, 0 below; a slice without an entry counts 0. Source: Kothari et al., Stroke 1996;27:1304.
    """

    case_id: str
    reader: str
    time: str  # ISO 8601 with the offset from UTC
    index_slice: int  # from 0
    a_ends_voxel: tuple[Point, Point]
    b_ends_voxel: tuple[Point, Point]
    weights: Mapping[int, float]  # slice from 0 -> 1, 0.5 or 0
    spacing_mm: tuple[float, float]  # of the grid
    slice_weights_mm: tuple[float, ...]  # of the grid: extent each slice stands for
    blinded: bool = False

    def __post_init__(self) -> None:
        n_slices = len(self.slice_weights_mm)
        if not self.case_id or not self.reader.strip():
            raise ValueError(f"case {self.case_id or '?'}: the reader is {self.reader!r}, wanted a name or code")
        if not 0 <= self.index_slice < n_slices:
            raise ValueError(f"case {self.case_id}: index slice {self.index_slice + 1}, wanted one of 1 to {n_slices}")
        for name, ends in (("A", self.a_ends_voxel), ("B", self.b_ends_voxel)):
            if np.shape(ends) != (2, 2) or not np.all(np.isfinite(ends)):
                raise ValueError(f"case {self.case_id}: {name} has the ends {ends}, wanted two points (i, j)")
        for k, weight in self.weights.items():
            if not 0 <= k < n_slices or weight not in SLICE_WEIGHTS:
                raise ValueError(
                    f"case {self.case_id}: slice {k + 1} has the weight {weight}, wanted 0, 0.5 or 1 for a slice "
                    f"of 1 to {n_slices}"
                )
        if self.weights.get(self.index_slice) != 1.0:
            raise ValueError(
                f"case {self.case_id}: the index slice {self.index_slice + 1} has the weight "
                f"{self.weights.get(self.index_slice, 0.0)}, wanted 1: the others are judged against it"
            )

    @property
    def a_mm(self) -> float:
        """Distance of the ends of A."""
        return _length_mm(self.a_ends_voxel, self.spacing_mm)

    @property
    def b_mm(self) -> float:
        """Distance of the ends of B."""
        return _length_mm(self.b_ends_voxel, self.spacing_mm)

    @property
    def c_mm(self) -> float:
        """Extent of every slice times the weight the reader gave it."""
        return math.fsum(self.slice_weights_mm[k] * weight for k, weight in self.weights.items())

    @property
    def abc2_ml(self) -> float:
        """A B C / 2."""
        return self.a_mm * self.b_mm * self.c_mm / 2000

    @property
    def angle_deg(self) -> float:
        """Angle between A and B, 0 to 90; the rule wants 90. NaN where A or B has no length."""
        a, b = (np.subtract(*ends) * self.spacing_mm for ends in (self.a_ends_voxel, self.b_ends_voxel))
        if not a.any() or not b.any():
            return math.nan
        return math.degrees(math.atan2(abs(a[0] * b[1] - a[1] * b[0]), abs(float(a @ b))))

    def text(self) -> str:
        """The measurement in one line."""
        return (
            f"A {self.a_mm:.1f} mm, B {self.b_mm:.1f} mm at {self.angle_deg:.0f}°, C {self.c_mm:.1f} mm: "
            f"ABC/2 {self.abc2_ml:.1f} ml"
        )

    def row(self) -> dict:
        """One row of readers.csv, without the number of the reading."""
        ends = [*self.a_ends_voxel, *self.b_ends_voxel]
        points = {f"{name}_{axis}": float(value) for name, point in zip(("a1", "a2", "b1", "b2"), ends, strict=True)
                  for axis, value in zip("ij", point, strict=True)}  # fmt: skip
        return {
            "case_id": self.case_id,
            "reader": self.reader,
            "time": self.time,
            "blinded": self.blinded,
            "index_slice": self.index_slice,
            "a_mm": self.a_mm,
            "b_mm": self.b_mm,
            "c_mm": self.c_mm,
            "abc2_ml": self.abc2_ml,
            "angle_deg": self.angle_deg,
            "weights": " ".join(f"{k}:{weight:g}" for k, weight in sorted(self.weights.items()) if weight),
            **points,
            "rule": "Kothari",
        }


def _length_mm(ends: tuple[Point, Point], spacing_mm: tuple[float, float]) -> float:
    return math.hypot(*(np.subtract(*ends) * spacing_mm))


def read_by(
    grid: Grid,
    case_id: str,
    reader: str,
    *,
    index_slice: int,
    a: tuple[Point, Point],
    b: tuple[Point, Point],
    weights: Mapping[int, float],
    blinded: bool = False,
) -> Reading:
    """Reading on a scan's grid, timed now.

    Raises
    ------
    ValueError : names the case and what is wrong with an end point, the index slice or a weight.
    """
    return Reading(
        case_id,
        reader.strip(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        index_slice,
        a,
        b,
        dict(weights),
        grid.spacing_mm,
        tuple(float(weight) for weight in grid.slice_weights_mm),
        blinded,
    )


def append(reading: Reading, path: str | Path) -> pd.DataFrame:
    """Add a reading to readers.csv in one step and return the table.

    A reader's readings of a case are numbered from 1, so that a second one is a repeat and replaces nothing. Two
    notebooks may write at once: the second waits for the first.

    Raises
    ------
    ValueError : the table found there does not fit its schema.
    TimeoutError : another notebook held the table for five seconds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), path.name, LOCK_WAIT_S):
        before = tables.read(path, "readers") if path.is_file() else None
        number = 1
        if before is not None:
            number += int(((before["case_id"] == reading.case_id) & (before["reader"] == reading.reader)).sum())
        row = pd.DataFrame([{"reading": number, **reading.row()}])
        both = row if before is None else pd.concat([before, row], ignore_index=True)
        return tables.write(both, path, "readers")


def reading_order(case_ids: Iterable[str], reader: str) -> list[str]:
    """Cases in random order, seeded by the reader's name."""
    seed = int.from_bytes(hashlib.sha256(reader.strip().encode()).digest()[:8], "big")
    cases = sorted(case_ids)
    return [cases[n] for n in np.random.default_rng(seed).permutation(len(cases))]
