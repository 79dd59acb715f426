"""A, B, C and every ABC/2 variant from a mask, with the geometry that was measured."""

import math
from dataclasses import dataclass, field

import numpy as np

from ich.components import SMALL_COMPONENT_ML, Box, bounding_box, label_components, layers_first, shifted
from ich.hull import Diameters, diameters
from ich.scan import slice_weights_mm

ROW = (
    "volume_ml", "a_mm", "b_mm", "c_mm", "abc2_ml", "c_kothari_mm", "abc2_kothari_ml", "abc3_ml",
    "two_thirds_sh_ml", "b_width_mm", "abc2_width_ml", "index_slice",
)  # fmt: skip

# Printed word for word in every report.
RULE = """\
- Index slice: the acquisition slice with the largest lesion area (a tie: the middle one). Never resample
  before measuring.
- Points: the lesion's boundary at the *edge midpoints* of its pixels (the 0.5 level of marching squares),
  times the in-plane spacing. Pixel centers are up to a pixel short, corners up to 1.3 pixels long.
- A: longest distance between two points of the convex hull. A tie: the pair with the larger B.
- B: longest chord of the convex hull perpendicular to A. (Projected width is a different number: a 40 x 20 mm
  rectangle has chord 22.4 mm and width 35.8 mm.)
- C, primary: number of slices with lesion x slice spacing, from the slice *positions* (not the SliceThickness
  tag), each slice weighing half the distance to its neighbors on both sides, so mixed 4 and 7 mm spacing is
  right; with gantry tilt the distance is along the slice normal.
- C, Kothari: slice area > 75 % of the index slice counts 1, 25-75 % counts 0.5, < 25 % counts 0.
- Volume = A·B·C/2000 ml. Whole mask is primary; the sum over connected components, and the mask without
  components < 0.1 ml, are sensitivity rows.
"""


@dataclass(frozen=True, eq=False)
class ABC2:
    """ABC/2 of one mask and what was measured. An empty mask has 0.0 for every length and volume.

    Indices are the mask's own; ends are rows of (i, j) in the index slice, NaN for an empty mask.
    """

    b_rule: str  # "chord" or "width": which B is `b_mm` and whose ends `b_ends_voxel` are
    spacing_mm: tuple[float, float]
    index_slice: int | None
    slices: np.ndarray  # (n,) slices with lesion
    areas_mm2: np.ndarray  # (n,) lesion area of each
    weights_mm: np.ndarray  # (n,) extent each stands for
    kothari_factors: np.ndarray  # (n,) 1, 0.5 or 0
    a_mm: float
    b_chord_mm: float
    b_width_mm: float
    a_ends_voxel: np.ndarray  # (2, 2)
    b_ends_voxel: np.ndarray  # (2, 2)
    hull_voxel: np.ndarray = field(repr=False)  # (m, 2) convex hull of the index slice, in order

    @property
    def b_mm(self) -> float:
        """B by `b_rule`."""
        return self.b_chord_mm if self.b_rule == "chord" else self.b_width_mm

    @property
    def c_mm(self) -> float:
        """C of the primary rule: every slice with lesion by its weight."""
        return math.fsum(self.weights_mm)

    @property
    def c_kothari_mm(self) -> float:
        """C weighted by slice area. Source: Kothari et al., Stroke 1996;27:1304."""
        return math.fsum(self.weights_mm * self.kothari_factors)

    @property
    def abc2_ml(self) -> float:
        """A B C / 2 with C = all slices and B by `b_rule`."""
        return self.a_mm * self.b_mm * self.c_mm / 2000

    @property
    def abc2_kothari_ml(self) -> float:
        """A B C / 2 with Kothari's C."""
        return self.a_mm * self.b_mm * self.c_kothari_mm / 2000

    @property
    def abc2_width_ml(self) -> float:
        """A B C / 2 with C = all slices and B by the width rule."""
        return self.a_mm * self.b_width_mm * self.c_mm / 2000

    @property
    def abc3_ml(self) -> float:
        """A B C / 3, meant for irregular bleeds. Source: Huttner et al., Stroke 2006;37:404."""
        return self.a_mm * self.b_mm * self.c_mm / 3000

    @property
    def two_thirds_sh_ml(self) -> float:
        """2/3 of largest slice area times height (C = all slices)."""
        return 2 / 3 * float(self.areas_mm2.max(initial=0)) * self.c_mm / 1000

    @property
    def volume_ml(self) -> float:
        """Planimetric volume: slice areas times slice weights."""
        return math.fsum(self.areas_mm2 * self.weights_mm) / 1000

    def row(self) -> dict:
        """Lengths and volumes under the names of the `measure` columns."""
        return {name: getattr(self, name) for name in ROW}


@dataclass(frozen=True, eq=False)
class Variants:
    """ABC/2 of the whole mask (primary) and two sensitivity rows: per component, and without small ones."""

    whole: ABC2
    components: tuple[ABC2, ...]  # largest first
    filtered: ABC2  # the mask without components below 0.1 ml

    @property
    def n_components(self) -> int:
        """Lesion parts that share no face, edge or corner."""
        return len(self.components)

    @property
    def largest_component_ml(self) -> float:
        """Volume of the largest component; 0.0 for an empty mask."""
        return max((part.volume_ml for part in self.components), default=0.0)

    def row(self) -> dict:
        """The `measure` columns in their order, then the sensitivity rows as columns."""
        whole = self.whole.row()
        head = {
            "volume_ml": whole.pop("volume_ml"),
            "n_components": self.n_components,
            "largest_component_ml": self.largest_component_ml,
        }
        index_slice = whole.pop("index_slice")
        tail = {
            "abc2_components_ml": math.fsum(part.abc2_ml for part in self.components),
            "abc2_filtered_ml": self.filtered.abc2_ml,
            "index_slice": index_slice,
        }
        return head | whole | tail

    def rows(self) -> list[dict]:
        """One row per variant. Volumes add up over components; lengths do not and are NaN there."""
        total: dict = dict.fromkeys(ROW, float("nan")) | {"index_slice": None}
        for name in ROW:
            if name.endswith("_ml"):
                total[name] = math.fsum(getattr(part, name) for part in self.components)
        kept = sum(part.volume_ml >= SMALL_COMPONENT_ML for part in self.components)
        return [
            {"variant": "whole mask", "n_components": self.n_components, **self.whole.row()},
            {"variant": "component sum", "n_components": self.n_components, **total},
            {"variant": "without components < 0.1 ml", "n_components": kept, **self.filtered.row()},
        ]


def abc2(
    mask: np.ndarray,
    spacing_mm: tuple[float, float],
    positions_mm: np.ndarray,
    *,
    b_rule: str = "chord",
    thickness_mm: float | None = None,
) -> ABC2:
    """ABC/2 of a mask by the rule in `RULE`, on its acquisition slices.

    Flips and 90 degree rotations of the slice change no bit of the lengths.

    Parameters
    ----------
    mask : (I, J, K) boolean, or integer where nonzero is lesion.
    spacing_mm : between pixel centers along I and J.
    positions_mm : (K,) ascending slice positions along the slice normal.
    b_rule : "chord" (longest chord perpendicular to A) or "width" (extent perpendicular to A).
    thickness_mm : weight of the only slice where K = 1.

    Returns
    -------
    ABC2 : an empty mask gives 0.0 for every length and volume.

    Raises
    ------
    ValueError : shape, spacing, rule or positions (`ScanError`) that cannot be measured.

    Source: Kothari et al., Stroke 1996;27:1304; Huttner et al., Stroke 2006;37:404.
    """
    mask, spacing, weights = _checked(mask, spacing_mm, positions_mm, b_rule, thickness_mm)
    box = bounding_box(mask)
    return _measure(layers_first(mask[box]), box, spacing, weights, b_rule)


def abc2_variants(
    mask: np.ndarray,
    spacing_mm: tuple[float, float],
    positions_mm: np.ndarray,
    *,
    b_rule: str = "chord",
    thickness_mm: float | None = None,
) -> Variants:
    """Whole mask, each connected component, and the mask without components below 0.1 ml.

    Parameters, empty masks and errors as `abc2`.
    """
    mask, spacing, weights = _checked(mask, spacing_mm, positions_mm, b_rule, thickness_mm)
    box = bounding_box(mask)
    crop = layers_first(mask[box])
    whole = _measure(crop, box, spacing, weights, b_rule)
    labels, boxes = label_components(crop)
    parts = [whole][: len(boxes)]
    if len(boxes) > 1:
        found = enumerate(boxes, start=1)
        parts = [_measure(labels[b] == n, shifted(b, box), spacing, weights, b_rule) for n, b in found]
    kept = np.array([False, *(part.volume_ml >= SMALL_COMPONENT_ML for part in parts)])
    if kept.sum() == len(boxes):
        filtered = whole
    elif kept.sum() == 1:
        filtered = parts[int(np.argmax(kept)) - 1]
    else:
        remaining = kept[labels]
        inner = bounding_box(remaining)
        filtered = _measure(remaining[inner], shifted(inner, box), spacing, weights, b_rule)
    return Variants(whole, tuple(sorted(parts, key=lambda part: -part.volume_ml)), filtered)


def _checked(mask, spacing_mm, positions_mm, b_rule, thickness_mm):
    mask = np.asarray(mask)
    if mask.ndim != 3 or mask.dtype.kind not in "bui":
        raise ValueError(f"mask: got shape {mask.shape} of {mask.dtype}, wanted (I, J, K) boolean or integer")
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (2,) or not np.all((spacing > 0) & np.isfinite(spacing)):
        raise ValueError(f"spacing_mm: got {spacing_mm}, wanted two positive in-plane spacings (I, J)")
    if b_rule not in ("chord", "width"):
        raise ValueError(f"b_rule: got {b_rule!r}, wanted 'chord' or 'width'")
    weights = slice_weights_mm(positions_mm, thickness_mm)
    if weights.size != mask.shape[2]:
        raise ValueError(f"positions_mm: got {weights.size} positions for {mask.shape[2]} slices")
    return mask if mask.dtype == bool else mask != 0, (float(spacing[0]), float(spacing[1])), weights


def _measure(crop: np.ndarray, box: Box, spacing, weights: np.ndarray, b_rule: str) -> ABC2:
    """ABC/2 of a mask that was cut out of a scan at `box`."""
    counts = np.array([np.count_nonzero(crop[:, :, k]) for k in range(crop.shape[2])], dtype=int)
    inside = np.flatnonzero(counts)
    if inside.size == 0:
        return _empty(spacing, b_rule)
    index, measured = _index_slice(crop, counts, spacing)
    offset = np.array([box[0].start, box[1].start])
    largest = counts.max()
    # Whole pixels compare exactly, so an area of just 75 or 25 % falls on the side the rule says.
    factors = np.where(4 * counts > 3 * largest, 1.0, np.where(4 * counts >= largest, 0.5, 0.0))
    return ABC2(
        b_rule=b_rule,
        spacing_mm=spacing,
        index_slice=box[2].start + index,
        slices=box[2].start + inside,
        areas_mm2=counts[inside] * (spacing[0] * spacing[1]),
        weights_mm=weights[box[2].start + inside],
        kothari_factors=factors[inside],
        a_mm=measured.a_mm,
        b_chord_mm=measured.b_chord_mm,
        b_width_mm=measured.b_width_mm,
        a_ends_voxel=measured.a_ends + offset,
        b_ends_voxel=(measured.chord_ends if b_rule == "chord" else measured.width_ends) + offset,
        hull_voxel=measured.hull + offset,
    )


def _index_slice(crop, counts, spacing) -> tuple[int, Diameters]:
    """Slice of the largest area; of several the middle one; of two middle ones that with the larger A."""
    tied = np.flatnonzero(counts == counts.max())
    middle = sorted({int(tied[(tied.size - 1) // 2]), int(tied[tied.size // 2])})
    found = [(k, diameters(crop[:, :, k], spacing)) for k in middle]
    return max(found, key=lambda slice_: slice_[1].lengths)


def _empty(spacing, b_rule) -> ABC2:
    none, ends = np.zeros(0), np.full((2, 2), np.nan)
    return ABC2(
        b_rule=b_rule,
        spacing_mm=spacing,
        index_slice=None,
        slices=none.astype(int),
        areas_mm2=none,
        weights_mm=none,
        kothari_factors=none,
        a_mm=0.0,
        b_chord_mm=0.0,
        b_width_mm=0.0,
        a_ends_voxel=ends,
        b_ends_voxel=ends,
        hull_voxel=np.zeros((0, 2)),
    )
