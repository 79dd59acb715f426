"""The best, the middle and the worst case of a run, one figure each: what a number looks like on a scan."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from ich import tables
from ich.abc2 import abc2
from ich.canvas import save_figure, store_caption, subplots
from ich.hounsfield import AIR_HU
from ich.measure import masks_in
from ich.scan import read_mask, read_scan
from ich.slice_figures import draw_abc, draw_slice

RANKS = ("best", "median", "worst")


def choose(metrics: pd.DataFrame, reader: str = "network") -> pd.DataFrame:
    """The test cases with the highest, the middle and the lowest Dice of blood as a whole.

    Returns
    -------
    rank, case_id, dice, reference_ml, predicted_ml and further columns of `metrics`; fewer than three rows where
    fewer cases were tested. Of an even number of cases the lower middle one is taken.
    """
    rows = metrics[(metrics["label"] == "blood") & (metrics["reader"] == reader) & metrics["dice"].notna()]
    return _ranked(rows.sort_values(["dice", "case_id"], ascending=[False, True]))


def choose_by_volume(measurements: pd.DataFrame, method: str = "abc2_ml") -> pd.DataFrame:
    """Without masks to compare: the cases in which `method` errs least, in the middle, and most.

    The error is the absolute difference from the reference in ml.
    """
    known = tables.for_abc2(measurements)
    known = known.assign(error_ml=(known[method] - known["reference_ml"]).abs()).dropna(subset="error_ml")
    return _ranked(known.sort_values(["error_ml", "case_id"]))


def _ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """First, middle and last of ordered rows."""
    places = dict(zip(RANKS, (0, len(rows) // 2, len(rows) - 1), strict=True)) if len(rows) else {}
    kept = {place: rank for rank, place in places.items()}  # one case is the worst, not three
    return rows.iloc[sorted(kept)].assign(rank=[kept[place] for place in sorted(kept)]).reset_index(drop=True)


def draw_three_cases(run: Path, predictions: Path | None = None) -> list[str]:
    """Draw the cases into figures/case_best, case_median and case_worst; returns the ranks that were drawn.

    Parameters
    ----------
    predictions : folder of the masks that were tested, where they are not the run's own.

    Nothing is drawn where the run has no volumes or its masks are no longer there.
    """
    folder = run / "tables"
    if not (folder / "measurements.csv").is_file():
        return []
    cohort = tables.read(folder / "cohort.csv").set_index("case_id")
    simulated = bool(cohort["simulated"].any())
    references = {str(case): run / mask for case, mask in cohort["reference_mask"].dropna().items()}
    images = {str(case): run / image for case, image in cohort["image"].dropna().items()}
    drawn = []
    if (folder / "metrics.csv").is_file():
        where = predictions or run / "predictions"
        found = masks_in(where) if where.is_dir() else {}
        for case in choose(tables.read(folder / "metrics.csv")).to_dict("records"):
            name = case["case_id"]
            if name in found and references[name].is_file():
                _draw_overlay(run, case, references[name], found[name], images.get(name), simulated)
                drawn.append(case["rank"])
    else:
        for case in choose_by_volume(tables.read(folder / "measurements.csv")).to_dict("records"):
            if references[case["case_id"]].is_file():
                _draw_diameters(run, case, references[case["case_id"]], simulated)
                drawn.append(case["rank"])
    return drawn


def _draw_overlay(
    run: Path, case: dict, reference_path: Path, predicted_path: Path, image: Path | None, simulated: bool
) -> None:
    """Reference and prediction on the slice that has the most blood in the reference."""
    (reference, grid), (predicted, _) = read_mask(reference_path), read_mask(predicted_path)
    k = int((reference > 0).sum(axis=(0, 1)).argmax())
    hu = read_scan(image).hu[:, :, k] if image and image.exists() else np.full(reference.shape[:2], float(AIR_HU))
    outlines = {"reference": reference[:, :, k] > 0, "prediction": predicted[:, :, k] > 0}
    fig, ax = subplots(size_mm=(62, 66))
    draw_slice(
        hu,
        ax,
        outlines=outlines,
        spacing_mm=grid.spacing_mm,
        title=f"{case['rank']}: Dice {case['dice']:.2f}",
        simulated=simulated,
    )
    caption = (
        f"{case['rank'].capitalize()} case: {case['case_id']}, "
        f"{case['hemorrhage_type'] if isinstance(case['hemorrhage_type'], str) else 'type not stated'}, "
        f"Dice {case['dice']:.2f}, reference {case['reference_ml']:.1f} ml, predicted {case['predicted_ml']:.1f} ml. "
        f"Slice {k + 1} of {reference.shape[2]}, the one with most blood."
    )
    _save(run, fig, case["rank"], caption, simulated)


def _draw_diameters(run: Path, case: dict, path: Path, simulated: bool) -> None:
    """A and B on the index slice of the reference."""
    mask, grid = read_mask(path)
    measured = abc2(mask, grid.spacing_mm, grid.positions_mm, thickness_mm=grid.header_slice_spacing_mm)
    fig, ax = subplots(size_mm=(62, 72))
    draw_abc(measured, mask, ax, title=f"{case['rank']}: error {case['error_ml']:.1f} ml", simulated=simulated)
    caption = (
        f"{case['rank'].capitalize()} case of ABC/2: {case['case_id']}, reference {case['reference_ml']:.1f} ml, "
        f"ABC/2 {case['abc2_ml']:.1f} ml. A and B on the index slice."
    )
    _save(run, fig, case["rank"], caption, simulated)


def _save(run: Path, fig, rank: str, caption: str, simulated: bool) -> None:
    save_figure(fig, run / "figures", f"case_{rank}", simulated=simulated)
    store_caption(run / "figures", f"case_{rank}", caption)
    plt.close(fig)
