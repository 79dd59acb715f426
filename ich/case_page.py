"""What was found on one scan, as a page."""

import html as escape
import importlib.metadata

import numpy as np
from matplotlib.figure import Figure

from ich import figures
from ich.abc2 import RULE
from ich.case import Case
from ich.html import figure_data_uri, page, use_notice
from ich.tables import LABELS
from ich.widgets import SliceViewer
from ich.wording import p_said


def case_page(found: Case) -> str:
    """A page that stands alone: measurements, warnings, slices with the outline, index slice of ABC/2, shape."""
    scan, prediction, measured, result = found.scan, found.prediction, found.measured, found.content
    interval = result["volume_interval_ml"]
    level = f"{100 * result['volume_interval_level']:.0f} %"
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
