"""Overlap of a predicted mask with its reference: volumes, surfaces, lesions, with stated empty-mask rules.

Empty masks
    both empty   Dice and IoU 1, `both_empty` set, distances and NSD not applicable (NaN)
    one empty    Dice, IoU and NSD 0, distances infinite; `missed` if it is the prediction, `false_alarm` if
                 it is the reference. Such a case stays in every mean of Dice and NSD.
    A ratio without a denominator (sensitivity without reference, precision without prediction) is NaN.
Volumes
    Voxels count by slice weight, so Dice is a ratio of ml, and equals the voxel count's on uniform slices.
Surfaces
    `hd_mm`, `hd95_mm`, `assd_mm` and `nsd_*` weigh surface elements by area; the `*_voxel_*` columns count
    voxels (see `ich.surface`). HD95 is the larger of the two directed 95th percentiles, ASSD the mean over
    both surfaces together. All are taken between positions in mm, so slices need not be equally spaced, and
    where the gantry was tilted they are shifted against each other in their plane (codes that take a spacing leave
    this out).
Lesions
    Connected components; voxels that share a corner touch. A reference lesion is detected if the prediction
    covers at least one of its voxels; a predicted lesion is false if no voxel of it lies in the reference.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from ich.components import Box, bounding_box, label_components, layers_first, volume_ml
from ich.scan import slice_weights_mm
from ich.surface import UPRIGHT, Axes, Elements, Shear, area_elements, distances, voxel_elements
from ich.tables import LABEL_NAMES

LESION_BINS_ML = (0.0, 0.1, 1.0, 5.0, 25.0, float("inf"))


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Directed distances between two surfaces with the weight of each element; measured once, read often."""

    to_predicted_mm: np.ndarray  # (n,) of the reference's elements
    reference_weights: np.ndarray  # (n,) mm2, or 1 per voxel
    to_reference_mm: np.ndarray  # (m,) of the predicted elements
    predicted_weights: np.ndarray  # (m,)

    def hd_mm(self) -> float:
        """Largest distance in either direction."""
        return float(max(self.to_predicted_mm.max(), self.to_reference_mm.max()))

    def hd95_mm(self, interpolated: bool) -> float:
        """Larger directed 95th percentile: of the weights, or of the sorted list with interpolation."""
        directed = (
            (self.to_predicted_mm, self.reference_weights),
            (self.to_reference_mm, self.predicted_weights),
        )
        if interpolated:
            return max(float(np.percentile(d, 95)) for d, _ in directed)
        return max(_weighted_percentile(d, w, 0.95) for d, w in directed)

    def assd_mm(self) -> float:
        """Mean distance over the elements of both surfaces."""
        total = self.to_predicted_mm @ self.reference_weights + self.to_reference_mm @ self.predicted_weights
        return float(total / (self.reference_weights.sum() + self.predicted_weights.sum()))

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces within `tolerance_mm` of the other one, 0..1."""
        limit = tolerance_mm + 1e-9  # rounding must not put a distance of just the tolerance outside
        near = self.reference_weights[self.to_predicted_mm <= limit].sum()
        near += self.predicted_weights[self.to_reference_mm <= limit].sum()
        return float(near / (self.reference_weights.sum() + self.predicted_weights.sum()))


def overlap(
    reference: np.ndarray,
    predicted: np.ndarray,
    spacing_mm: tuple[float, float],
    positions_mm: np.ndarray,
    *,
    tolerances_mm: tuple[float, ...] = (1.0, 2.0),
    thickness_mm: float | None = None,
    shear: Shear = UPRIGHT,
) -> dict:
    """The whole panel for one pair of masks; definitions at the head of this module.

    Parameters
    ----------
    reference, predicted : (I, J, K) boolean, or integer where nonzero is lesion.
    spacing_mm : between voxel centers along I and J.
    positions_mm : (K,) ascending slice positions along the slice normal; any spacing.
    tolerances_mm : of the normalized surface Dice, one column `nsd_<t>mm` each.
    thickness_mm : extent of the only slice where K = 1.
    shear : how far slices move along I and J per mm along the normal (`ich.grid.Grid.shear`).

    Raises
    ------
    ValueError : shapes that differ, or a grid that cannot be measured.
    """
    reference, predicted = _boolean("reference", reference), _boolean("predicted", predicted)
    if reference.shape != predicted.shape:
        raise ValueError(f"predicted mask shape {predicted.shape} differs from reference {reference.shape}")
    if len(spacing_mm) != 2 or not min(spacing_mm) > 0:
        raise ValueError(f"spacing_mm: got {spacing_mm}, wanted two positive in-plane spacings (I, J)")
    weights = slice_weights_mm(positions_mm, thickness_mm)
    if weights.size != reference.shape[2]:
        raise ValueError(f"positions_mm: got {weights.size} positions for {reference.shape[2]} slices")
    box = _union(bounding_box(reference), bounding_box(predicted))
    reference, predicted = layers_first(reference[box]), layers_first(predicted[box])
    voxel_ml = spacing_mm[0] * spacing_mm[1] * weights[box[2]] / 1000
    row = _volumes(reference, predicted, voxel_ml)
    layers_mm = _layers_mm(positions_mm, weights, box[2])
    row |= _surface_columns(reference, predicted, spacing_mm, layers_mm, shear, tolerances_mm)
    return row | _lesions(reference, predicted, voxel_ml)


def overlap_by_label(
    reference_labels: np.ndarray,
    predicted_labels: np.ndarray,
    spacing_mm: tuple[float, float],
    positions_mm: np.ndarray,
    *,
    tolerances_mm: tuple[float, ...] = (1.0, 2.0),
    thickness_mm: float | None = None,
    shear: Shear = UPRIGHT,
) -> list[dict]:
    """One row for blood as a whole, then one per label found in either mask; the first column is `label`.

    A label absent from both masks gives no row. Parameters and errors as `overlap`, with labels 0 to 3.
    """
    pair = {"reference": np.asarray(reference_labels), "predicted": np.asarray(predicted_labels)}
    found = set()
    for name, labels in pair.items():
        found |= _values(name, labels)
    options: dict = {"tolerances_mm": tolerances_mm, "thickness_mm": thickness_mm, "shear": shear}

    def panel(label, masks):
        return {"label": label, **overlap(*masks, spacing_mm, positions_mm, **options)}

    rows = [panel("blood", pair.values())]
    for value in sorted(found - {0}):
        if len(found - {0}) == 1:  # the label is all the blood there is
            rows.append(rows[0] | {"label": LABEL_NAMES[value]})
            break
        rows.append(panel(LABEL_NAMES[value], (labels == value for labels in pair.values())))
    return rows


def _values(name, labels) -> set[int]:
    if labels.dtype == bool:
        return {int(labels.any())}
    _boolean(name, labels)
    found = {int(value) for value in np.unique(labels[bounding_box(labels != 0)])}
    if not found <= {0, *LABEL_NAMES}:
        raise ValueError(f"{name}: found labels {sorted(found)}, wanted 0 to 3")
    return found


def _boolean(name, mask) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 3 or mask.dtype.kind not in "bui":
        raise ValueError(f"{name}: got {mask.shape} of {mask.dtype}, wanted (I, J, K) boolean or integer")
    return mask if mask.dtype == bool else mask != 0


def _union(a: Box, b: Box) -> Box:
    if a[0].stop == 0 or b[0].stop == 0:
        return b if a[0].stop == 0 else a
    i, j, k = (slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return i, j, k


def _ratio(part: float, whole: float) -> float:
    if whole == 0:
        return float("nan") if part == 0 else float("inf")
    return part / whole


def _volumes(reference, predicted, voxel_ml) -> dict:
    masks = reference, predicted, reference & predicted
    in_reference, in_predicted, in_both = (float(np.count_nonzero(mask, axis=(0, 1)) @ voxel_ml) for mask in masks)
    both_empty = in_reference == in_predicted == 0
    error = in_predicted - in_reference
    return {
        "dice": 1.0 if both_empty else 2 * in_both / (in_reference + in_predicted),
        "iou": 1.0 if both_empty else in_both / (in_reference + in_predicted - in_both),
        "sensitivity": _ratio(in_both, in_reference),
        "precision": _ratio(in_both, in_predicted),
        "reference_ml": in_reference,
        "predicted_ml": in_predicted,
        "volume_error_ml": error,
        "relative_volume_error": _ratio(error, in_reference),
        "both_empty": both_empty,
        "missed": in_predicted == 0 < in_reference,
        "false_alarm": in_reference == 0 < in_predicted,
    }


def _layers_mm(positions_mm, weights, inside: slice) -> np.ndarray:
    """Positions of the slices in `inside` and of one empty slice on both sides, real or beyond the stack."""
    positions = np.asarray(positions_mm, dtype=np.float64)
    layers = np.concatenate([[positions[0] - weights[0]], positions, [positions[-1] + weights[-1]]])
    return layers[inside.start : inside.stop + 2]


def surfaces(
    reference: np.ndarray, predicted: np.ndarray, spacing_mm: tuple[float, float], layers_mm: np.ndarray, shear: Shear
) -> tuple[Surfaces, Surfaces]:
    """Distances between the surfaces of two nonempty masks (I, J, K), by area and by voxel.

    `layers_mm` (K + 2,) are the positions of the slices and of one empty slice before and after them.
    """
    padded = [np.pad(mask.transpose(2, 0, 1), 1) for mask in (reference, predicted)]
    rows, columns = (np.arange(n) * s for n, s in zip(reference.shape[:2], spacing_mm, strict=True))
    centers = layers_mm[1:-1], rows, columns
    # Cells reach half a voxel beyond the mask on each side, so there is one more of them on each axis.
    cells = (
        (layers_mm[1:] + layers_mm[:-1]) / 2,
        np.arange(rows.size + 1) * spacing_mm[0],
        np.arange(columns.size + 1) * spacing_mm[1],
    )
    by_area = [area_elements(mask, spacing_mm, np.diff(layers_mm), shear) for mask in padded]
    by_voxel = [voxel_elements(mask) for mask in padded]
    return _both_ways(by_area, cells, shear), _both_ways(by_voxel, centers, shear)


def _both_ways(pair: list[Elements], axes_mm: Axes, shear: Shear) -> Surfaces:
    reference, predicted = pair
    there, back = distances(reference, predicted, axes_mm, shear), distances(predicted, reference, axes_mm, shear)
    return Surfaces(there, reference.weights, back, predicted.weights)


def _surface_columns(reference, predicted, spacing_mm, layers_mm, shear, tolerances_mm) -> dict:
    some = bool(reference.any()), bool(predicted.any())
    distance, share = (float("inf"), 0.0) if any(some) else (float("nan"), float("nan"))
    kinds = dict.fromkeys(("", "_voxel"))
    if all(some):
        kinds = dict(zip(kinds, surfaces(reference, predicted, spacing_mm, layers_mm, shear), strict=True))
    row = {}
    for kind, measured in kinds.items():
        row[f"hd{kind}_mm"] = measured.hd_mm() if measured else distance
        row[f"hd95{kind}_mm"] = measured.hd95_mm(interpolated=kind == "_voxel") if measured else distance
        row[f"assd{kind}_mm"] = measured.assd_mm() if measured else distance
        for tolerance in tolerances_mm:
            row[f"nsd{kind}_{tolerance:g}mm"] = measured.nsd(tolerance) if measured else share
    return row


def _weighted_percentile(values, weights, share) -> float:
    """Smallest value at which the values up to it hold `share` of the weight."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(reached, share * reached[-1]), len(values) - 1)])


def _lesions(reference, predicted, voxel_ml) -> dict:
    lesions = _lesion_volumes(reference, predicted, voxel_ml)
    false = _lesion_volumes(predicted, reference, voxel_ml)
    false = false[~false[:, 1].astype(bool)]
    row = _counts(lesions, false, "")
    for low, high in itertools.pairwise(LESION_BINS_ML):
        row |= _counts(_between(lesions, low, high), _between(false, low, high), lesion_suffix(low, high))
    return row


def lesion_suffix(low: float, high: float) -> str:
    """End of the columns that count lesions from `low` to below `high` ml."""
    return f"_{low:g}_{high:g}ml" if np.isfinite(high) else f"_over_{low:g}ml"


def _between(lesions, low, high) -> np.ndarray:
    return lesions[(lesions[:, 0] >= low) & (lesions[:, 0] < high)]


def _counts(lesions, false, suffix) -> dict:
    detected = int(lesions[:, 1].sum())
    return {
        f"n_reference_lesions{suffix}": len(lesions),
        f"n_detected{suffix}": detected,
        f"n_missed{suffix}": len(lesions) - detected,
        f"n_false{suffix}": len(false),
    }


def _lesion_volumes(mask, other, voxel_ml) -> np.ndarray:
    """Volume of each component in ml and whether `other` covers a voxel of it, (n, 2)."""
    labels, boxes = label_components(mask)
    rows = []
    for label, box in enumerate(boxes, start=1):
        part = labels[box] == label
        rows.append((volume_ml(part, voxel_ml[box[2]]), np.any(part & other[box])))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)
