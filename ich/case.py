"""One scan in, one report out: mask on the native grid, case.json and case.html."""

import html as escape
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ich import figures
from ich.abc2 import ABC2, RULE, abc2_variants
from ich.atomic import write_text
from ich.calibration import half_width_ml, volume_interval
from ich.dicom_report import write_dicom_report
from ich.dicom_seg import write_dicom_seg
from ich.earlier import doubts
from ich.growth import Growth, growth
from ich.html import figure_data_uri, page, use_notice
from ich.model import SHIPPED_WEIGHTS
from ich.predict import Prediction, Weights, predict
from ich.scan import Scan, ScanError, read_scan, write_mask
from ich.series import Series, choose_series
from ich.tables import LABELS
from ich.widgets import SliceViewer
from ich.wording import p_said

CARD = ("sha256", "trained_on", "not_tested", "simulated", "best_step", "use")  # of the weights, in case.json
FILES = ("mask.nii.gz", "mask.dcm", "report.dcm", "case.html", "case.json")  # of a case
SIMULATED = "The scan is simulated: it is of no patient."


@dataclass(frozen=True)
class Limits:
    """Acquisitions outside these are rare or missing in the training of every network here; the report then warns."""

    tilt_deg: float = 30.0
    slice_spacing_mm: tuple[float, float] = (2.0, 8.0)
    coverage_mm: float = 90.0


def warnings_for(scan: Scan, prediction: Prediction, weights: "Weights", limits: Limits = Limits()) -> list[str]:
    """What a reader must know before using the numbers."""
    grid, familiar = scan.grid, weights.familiar
    found = [*grid.notes, *scan.notes]
    if familiar and familiar.distance(prediction.embedding) > familiar.limit:
        times = familiar.distance(prediction.embedding) / familiar.limit
        found.append(
            f"The scan is unlike those that the network was trained on: {times:.1f} times as far from them as the "
            f"farthest of {familiar.n_validation} validation scans. Do not rely on the mask."
        )
    if weights.card.get("simulated"):
        found.append("The network was trained on simulated scans only and has not been validated on patients.")
    found += [
        f"No training case was labeled {label}: the network marks no blood as {label}."
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


def write(found: Case, scan_path: Path, out: Path, dicom_out: Path | None = None, series: str | None = None) -> None:
    """Write mask.nii.gz, case.json and case.html into `out`.

    A DICOM series also gets mask.dcm (DICOM SEG) and report.dcm (structured report) where blood was marked; why not,
    where the series cannot be referred to, becomes a warning. They name the patient, as DICOM has to: `dicom_out` is
    where they go if `out` is to be shared.
    """
    out.mkdir(parents=True, exist_ok=True)
    _write_content(found, out)  # first: it tells whose the other files are, should this be interrupted
    write_mask(out / "mask.nii.gz", found.prediction.labels, found.scan.grid)
    if found.scan.source == "dicom" and found.prediction.volume_ml > 0:
        found.content["warnings"] += _write_dicom(
            choose_series(scan_path, series), dicom_out or out, found.prediction, found.content
        )
        _write_content(found, out)
    write_text(out / "case.html", _page(found))


def segment(
    scan_path: Path,
    out: Path,
    weights: Path | Weights = SHIPPED_WEIGHTS,
    device: str = "auto",
    earlier: Path | None = None,
    series: str | None = None,
    earlier_series: str | None = None,
) -> dict:
    """`analyze` one scan and `write` what was found; returns the content of case.json.

    What an earlier call has left in `out` is removed first, as it may be another patient's. If a scan or the weights
    cannot be used, nothing is written.

    Raises
    ------
    FileExistsError
        `out` holds a file that a case would overwrite and that no earlier call has written.
    """
    _clear(out, scan_path)
    found = analyze(scan_path, weights, device, earlier, series=series, earlier_series=earlier_series)
    _clear(out, scan_path)  # again: another call may have written there meanwhile
    write(found, scan_path, out, series=series)
    return found.content


def _write_content(found: Case, out: Path) -> None:
    write_text(out / "case.json", json.dumps(found.content, indent=2, allow_nan=False) + "\n")


def _clear(out: Path, scan_path: Path) -> None:
    left = [out / name for name in FILES if (out / name).exists()]
    own = (out / "case.json").is_file()
    if left and (not own or any(path.resolve() == scan_path.resolve() for path in left)):
        raise FileExistsError(
            f"{left[0]} would be overwritten and is not what `ich segment` wrote there: choose another folder"
        )
    for path in sorted(left, key=lambda path: path.name == "case.json"):  # which tells whose they are, last
        path.unlink()


def _growth(before: Prediction, after: Prediction, calibration: dict) -> Growth:
    halves = [half_width_ml(found.uncertain_ml, calibration) for found in (before, after)]
    known = None if halves[0] is None or halves[1] is None else (halves[0], halves[1])
    return growth(before.volume_ml, after.volume_ml, known, calibration["level"])


def _write_dicom(series: Series, out: Path, prediction: Prediction, result: dict) -> list[str]:
    """Mask and volumes as DICOM; why not, where the series cannot be referred to: the case stands without them."""
    out.mkdir(parents=True, exist_ok=True)
    made_by = f"weights {str(result['weights']['sha256'])[:12]}"
    version = importlib.metadata.version("ich")
    try:
        write_dicom_seg(out / "mask.dcm", prediction.labels, series, made_by, version)
        volumes = result["volume_ml_by_label"]
        write_dicom_report(out / "report.dcm", out / "mask.dcm", volumes, series, made_by, version)
    except (ScanError, ValueError, AttributeError, TypeError) as error:
        return [f"No DICOM SEG and report were written: {error}."]
    return []


def _row(name: str, value: str) -> str:
    return f"<tr><th scope='row'>{escape.escape(name)}</th><td>{escape.escape(value)}</td></tr>"


def _growth_rows(change: dict | None) -> list[str]:
    if change is None:
        return []
    percent = f", {change['change_percent']:+.0f} %" if change["change_percent"] is not None else ""
    rows = [
        _row("Blood on the earlier scan, total", f"{change['earlier_ml']:.1f} ml"),
        _row("Change of the total", f"{change['change_ml']:+.1f} ml{percent}"),
        _row("Expansion of the total (over 6 ml or 33 %)", "yes" if change["expansion"] else "no"),
    ]
    if change["by_error"] is not None:
        chance = f"probability {p_said(change['by_error'])}"
        rows.append(_row("As large a change by measurement error alone", chance))
    return rows


def _index_figure(found: Case) -> str:
    """A and B drawn on the index slice, as an image element."""
    figure, measured = Figure(figsize=(4.2, 4.2), layout="constrained"), found.measured
    figures.draw_abc(measured, found.measured_mask, figure.subplots(), hu=found.scan.hu, simulated=found.simulated)
    alt = f"Index slice {(measured.index_slice or 0) + 1} with A {measured.a_mm:.1f} mm and B {measured.b_mm:.1f} mm"
    image = f"<figure><img src='{figure_data_uri(figure)}' alt='{alt}'></figure>"
    return f"<h2>ABC/2 of {found.content['abc2_of']}, on the index slice</h2>{image}"


def _gallery(found: Case) -> str:
    """Every slice with blood, outlined, and the shape of the blood: what a printed page can show."""
    scan, prediction = found.scan, found.prediction
    masks = {name: prediction.labels == label for name, label in LABELS.items() if (prediction.labels == label).any()}
    slices = Figure(figsize=(7, 4))
    figures.draw_montage(
        scan.hu,
        masks,
        slices,
        spacing_mm=scan.grid.spacing_mm,
        positions_mm=scan.grid.positions_mm,
        n_slices=40,
        columns=8,
        simulated=found.simulated,
    )
    shape = Figure(figsize=(7, 2.4), layout="constrained")
    figures.draw_surface(prediction.labels, scan.grid, list(shape.subplots(1, 3)), LABELS, simulated=found.simulated)
    return f"""<h2>Slices with blood</h2>
<figure><img src='{figure_data_uri(slices)}' alt='Slices with blood and its outline'></figure>
<h2>Shape</h2>
<figure><img src='{figure_data_uri(shape)}' alt='Surface of the blood from the front, from the left and from above'>
<figcaption>Smoothed and interpolated between slices, for looking at only.</figcaption></figure>"""


def _abc_rows(found: Case) -> list[str]:
    measured = found.measured
    if measured.index_slice is None:
        return [_row("ABC/2", "not measured: no blood was marked")]
    return [
        _row(f"ABC/2 of {found.content['abc2_of']}, C = all slices", f"{measured.abc2_ml:.1f} ml"),
        _row("ABC/2, Kothari's C", f"{measured.abc2_kothari_ml:.1f} ml"),
        _row("A, B, C", f"{measured.a_mm:.1f}, {measured.b_mm:.1f}, {measured.c_mm:.1f} mm"),
    ]


def _page(found: Case) -> str:
    scan, prediction, measured, result = found.scan, found.prediction, found.measured, found.content
    interval = result["volume_interval_ml"]
    level = f"{result['volume_interval_level']:.0%}"
    rows = [
        _row("Blood, total", f"{result['volume_ml']:.1f} ml"),
        _row(
            f"{level} prediction interval",
            f"{interval[0]:.1f} to {interval[1]:.1f} ml" if interval else "not available: too few validation cases",
        ),
        *(_row(f"of it {name}", f"{volume:.1f} ml") for name, volume in result["volume_ml_by_label"].items()),
        *_growth_rows(result["growth"]),
        *_abc_rows(found),
        _row("Slices", f"{scan.grid.shape[2]}, {scan.grid.slice_spacing_mm:.2f} mm apart (median)"),
        _row("Gantry tilt", f"{scan.grid.tilt_deg:.1f}°"),
        _row("Made by", f"ich {importlib.metadata.version('ich')}, weights {str(result['weights']['sha256'])[:12]}"),
    ]
    slices = "".join(
        _row(f"slice {k + 1}", f"{area:.0f} mm², {weight:.2f} mm, Kothari {factor:g}")
        for k, area, weight, factor in zip(
            measured.slices, measured.areas_mm2, measured.weights_mm, measured.kothari_factors, strict=True
        )
    )
    warned = "".join(f"<li>{escape.escape(text)}</li>" for text in result["warnings"]) or "<li>none</li>"
    any_blood = bool(np.any(prediction.labels))
    body = f"""<div class="case">
<h1>Single case</h1>
<p class="notice">{escape.escape(use_notice(result["weights"]))}</p>
<h2>Measurements</h2>
<table>{"".join(rows)}</table>
<h2>Warnings</h2>
<ul>{warned}</ul>
<div class="on-screen"><h2>Slices</h2>
{SliceViewer(scan.hu, prediction.labels, scan.grid.spacing_mm).html()}</div>
{_index_figure(found) if any_blood else "<p>No blood was marked.</p>"}
{_gallery(found) if any_blood else ""}
{f"<details><summary>Area and extent of each slice</summary><table>{slices}</table></details>" if any_blood else ""}
<details><summary>Rule for ABC/2</summary><pre>{escape.escape(RULE)}</pre></details>
</div>"""
    return page("Single case", body)
