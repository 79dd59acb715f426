"""One scan, marked and measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ich.abc2 import ABC2, RULE, abc2_variants
from ich.calibration import half_width_ml, volume_interval
from ich.earlier import doubts
from ich.growth import Growth, growth
from ich.model import SHIPPED_WEIGHTS
from ich.predict import Prediction, Weights, predict
from ich.quality import check_quality
from ich.scan import Scan, ScanError, read_scan
from ich.seen import CHOSEN, TAUGHT
from ich.tables import LABELS

CARD = ("sha256", "trained_on", "not_tested", "simulated", "best_step", "use")  # of the weights, in case.json
SIMULATED = "The scan is simulated: it is of no patient."
FEW_SCANS = 50  # trained on fewer, a network is warned of
SAID = ("reading", "slices")  # checks of which the notes on values and slices tell


@dataclass(frozen=True)
class Limits:
    """Acquisitions outside these are rare or missing in the training of every network here; the report then warns."""

    tilt_deg: float = 30.0
    slice_spacing_mm: tuple[float, float] = (2.0, 8.0)
    coverage_mm: float = 90.0


def warnings_for(scan: Scan, prediction: Prediction, weights: Weights, limits: Limits = Limits()) -> list[str]:
    """What a reader must know before using the numbers."""
    grid, familiar = scan.grid, weights.familiar
    found = [*grid.notes, *scan.notes]
    quality = check_quality(scan, np.zeros_like(prediction.labels))  # of the scan alone: the mask is no reference
    found += [f"Quality: {text}." for name, text in quality.flags.items() if name not in SAID]
    if familiar and familiar.distance(prediction.embedding) > familiar.limit:
        times = familiar.distance(prediction.embedding) / familiar.limit
        found.append(
            f"The scan is unlike those that the network was trained on: {times:.1f} times as far from them as the "
            f"farthest of {familiar.n_validation} validation scans. Do not rely on the mask."
        )
    if weights.card.get("simulated"):
        found.append("The network was trained on simulated scans only and has not been validated on patients.")
    seen = {use: len(digests.split()) for use, digests in weights.card.get("scans_seen", {}).items()}
    if 0 < seen.get(TAUGHT, 0) < FEW_SCANS:
        found.append(
            f"The network was trained, or trained further, on {seen[TAUGHT]} scans and chosen on {seen[CHOSEN]}: too "
            "few to know what it misses."
        )
    if weights.card["volume_calibration"]["factor"] is None:
        found.append("The volume has no prediction interval: the network was chosen on too few scans.")
    found += [
        f"No training case was labeled {label}: do not rely on the network to mark blood as {label}."
        for label in weights.card.get("absent_labels", [])
    ]
    if abs(grid.tilt_deg) > limits.tilt_deg:
        found.append(f"Gantry tilt {grid.tilt_deg:.1f}° is beyond ±{limits.tilt_deg:g}°.")
    low, high = limits.slice_spacing_mm
    if not low <= grid.slice_spacing_mm <= high:
        found.append(f"Slice spacing {grid.slice_spacing_mm:.2f} mm is outside {low:g} to {high:g} mm.")
    if not grid.uniform and not any("unequal" in note for note in found):
        steps = ", ".join(f"{step:g}" for step in sorted({round(float(step), 2) for step in grid.steps_mm}))
        found.append(f"Slice distances differ ({steps} mm); each slice is weighted by its own extent.")
    coverage = float(grid.slice_weights_mm.sum())
    if coverage < limits.coverage_mm:
        found.append(f"The scan covers {coverage:.0f} mm along the slice normal: less than a whole brain.")
    edge = prediction.labels[:, :, [0, -1]] > 0
    if edge.any():
        found.append("Blood is marked on the first or last slice: it may reach beyond the scan.")
    return found


@dataclass(frozen=True, eq=False)
class Case:
    """A scan, what the network marked on it, ABC/2, and the content of case.json:

    volume_ml, volume_ml_by_label, volume_interval_ml (None where validation was too small), abc2 (the measure columns),
    abc2_of (parenchymal blood where there is any, for which the rule was made, else blood as a whole), growth (None
    without an earlier scan), spacing, tilt_deg, weights, novelty (over 1: unlike the training scans; None where the
    weights cannot tell), warnings.
    """

    scan: Scan
    prediction: Prediction
    measured: ABC2
    content: dict

    @property
    def simulated(self) -> bool:
        """Whether the scan is said to be simulated."""
        return SIMULATED in self.content["warnings"]

    @property
    def measured_mask(self) -> np.ndarray:
        """(I, J, K) bool, what ABC/2 was measured on."""
        return _for_abc2(self.prediction.labels)[1]


def _for_abc2(labels: np.ndarray) -> tuple[str, np.ndarray]:
    parenchymal = labels == LABELS["parenchymal"]
    return ("parenchymal blood", parenchymal) if parenchymal.any() else ("blood as a whole", labels > 0)


def _in_hu(path: Path, series: str | None = None) -> Scan:
    """The scan at a path; ScanError where its values are no HU."""
    scan = read_scan(path, series)
    if scan.kind != "hu":
        raise ScanError(f"{path}: {'; '.join(scan.notes)}")
    return scan


def analyze(
    scan_path: Path,
    weights: Path | Weights = SHIPPED_WEIGHTS,
    device: str = "auto",
    earlier: Path | None = None,
    simulated: bool = False,
    series: str | None = None,
    earlier_series: str | None = None,
) -> Case:
    """Mark and measure blood on one NIfTI file or DICOM folder.

    Parameters
    ----------
    earlier : an earlier scan of the same patient, to be compared with.
    simulated : whether the scan is simulated; the first warning then says so.
    series, earlier_series : name of the DICOM series to take of each, where a folder holds several.

    Raises
    ------
    ScanError, FileNotFoundError, ValueError
        A scan or the weights cannot be used.
    """
    loaded = weights if isinstance(weights, Weights) else Weights.load(weights, device)
    card, scan = loaded.card, _in_hu(scan_path, series)
    former = _in_hu(earlier, earlier_series) if earlier else None
    prediction = predict(loaded.network, loaded.settings, scan)
    before = predict(loaded.network, loaded.settings, former) if former else None
    grid = scan.grid
    measured_of, mask = _for_abc2(prediction.labels)
    variants = abc2_variants(mask, grid.spacing_mm, grid.positions_mm, thickness_mm=grid.header_slice_spacing_mm)
    calibration = card["volume_calibration"]
    content = {
        "volume_ml": prediction.volume_ml,
        "volume_ml_by_label": {name: prediction.volume_by_label_ml[label] for name, label in LABELS.items()},
        "volume_interval_ml": volume_interval(prediction.volume_ml, prediction.uncertain_ml, calibration),
        "volume_interval_level": calibration["level"],
        "abc2": variants.row(),
        "abc2_of": measured_of,
        "abc2_rule": RULE,
        "growth": None if before is None else vars(_growth(before, prediction, calibration)),
        "spacing": {
            "in_plane_mm": list(grid.spacing_mm),
            "slice_mm": grid.slice_spacing_mm,
            "uniform": grid.uniform,
            "n_slices": grid.shape[2],
        },
        "tilt_deg": grid.tilt_deg,
        "weights": {key: card.get(key) for key in CARD},
        "novelty": loaded.familiar.distance(prediction.embedding) / loaded.familiar.limit if loaded.familiar else None,
        "warnings": [
            *[SIMULATED] * simulated,
            *(doubts(scan_path, earlier, series, earlier_series) if earlier else []),
            *(f"Earlier scan: {note}" for note in ((*former.grid.notes, *former.notes) if former else ())),
            *warnings_for(scan, prediction, loaded),
        ],
    }
    return Case(scan, prediction, variants.whole, content)


def _growth(before: Prediction, after: Prediction, calibration: dict) -> Growth:
    halves = [half_width_ml(found.uncertain_ml, calibration) for found in (before, after)]
    known = None if halves[0] is None or halves[1] is None else (halves[0], halves[1])
    return growth(before.volume_ml, after.volume_ml, known, calibration["level"])
