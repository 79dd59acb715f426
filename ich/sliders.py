"""Sliders beside the static figures of 03 and 04: what another choice would have given, in JupyterLab.

They change no table: the report holds what was chosen before the run.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ich.agreement import PAPER_EDGES_ML
from ich.canvas import subplots
from ich.comparison import absolute_errors_by_group
from ich.components import drop_specks
from ich.error_figures import draw_error_by_group
from ich.scan import read_mask


def volume_groups(cases: pd.DataFrame, methods: Sequence[str], labels: Mapping[str, str], simulated: bool):
    """Absolute errors by volume group, the edges of the groups on a slider.

    Parameters
    ----------
    cases : reference_ml, patient_id and the columns of `methods`, ml. labels : column -> name in the legend.
    simulated : whether the figure has to say so.

    Returns
    -------
    An ipywidgets box; its `children` are the slider and the figure.
    """
    import ipywidgets  # a second to import; reports do without

    most = float(np.ceil(cases["reference_ml"].max()))
    edges = ipywidgets.FloatRangeSlider(
        value=PAPER_EDGES_ML, min=1, max=max(most, 30), step=1, description="groups, ml", continuous_update=False
    )
    picture = ipywidgets.Image(format="png")

    def show(_=None) -> None:
        errors = absolute_errors_by_group(cases, "reference_ml", list(methods), edges_ml=edges.value)
        fig, ax = subplots(size_mm=(140, 85))
        draw_error_by_group(errors, ax, labels=labels, title="Absolute volume error", simulated=simulated)
        drawn = io.BytesIO()
        fig.savefig(drawn, format="png")
        plt.close(fig)
        picture.value = drawn.getvalue()

    edges.observe(show, "value")
    show()
    return ipywidgets.VBox([edges, picture])


def dice_without_specks(cases: pd.DataFrame, run_dir: Path, smallest_ml: float) -> pd.Series:
    """Dice of blood of each case if connected blood below `smallest_ml` were not marked.

    Parameters
    ----------
    cases : case_id, reference_mask, prediction; paths from `run_dir`. A case without a prediction is left out.
    """
    found = {}
    for row in cases[cases["prediction"].notna()].itertuples():
        reference, grid = read_mask(run_dir / str(row.reference_mask))
        predicted = read_mask(run_dir / str(row.prediction))[0].copy()
        drop_specks(predicted, grid.voxel_ml, smallest_ml)
        a, b = (np.count_nonzero(mask, axis=(0, 1)) @ grid.voxel_ml for mask in (reference > 0, predicted > 0))
        both = np.count_nonzero((reference > 0) & (predicted > 0), axis=(0, 1)) @ grid.voxel_ml
        found[str(row.case_id)] = 2 * both / (a + b) if a + b else 1.0
    return pd.Series(found, dtype=float)


def _by_type(dice: pd.Series, cases: pd.DataFrame) -> str:
    """HTML table of mean Dice by hemorrhage type, for Dice by case id."""
    kinds = cases.set_index("case_id")["hemorrhage_type"].fillna("not stated")
    groups = {str(kind): part for kind, part in dice.groupby(kinds.reindex(dice.index))} | {"all": dice}
    rows = [{"type": kind, "n": len(part), "mean Dice": round(part.mean(), 3)} for kind, part in groups.items()]
    return pd.DataFrame(rows).to_html(index=False)


def smallest_component(cases: pd.DataFrame, run_dir: Path):
    """Mean Dice by hemorrhage type for any smallest component, on a slider; masks are read when it is first moved.

    Returns
    -------
    An ipywidgets box; its `children` are the slider and the table.
    """
    import ipywidgets

    smallest = ipywidgets.FloatSlider(
        value=0, min=0, max=2, step=0.05, description="smallest, ml", continuous_update=False
    )
    table = ipywidgets.HTML("Move the slider: connected blood below this volume is then not counted.")

    def show(_) -> None:
        table.value = _by_type(dice_without_specks(cases, run_dir, smallest.value), cases)

    smallest.observe(show, "value")
    return ipywidgets.VBox([smallest, table])


def dice_at(bins: pd.DataFrame, reference_voxels: Mapping[str, int], threshold: float) -> pd.Series:
    """Dice of blood of each case, by voxels, if all voxels at least as probable as `threshold` were marked.

    Parameters
    ----------
    bins : rows of `ich.calibration.count_bins` with case_id. threshold : one of their lower edges.
    """
    marked = bins[bins["low"] > threshold - 1e-6].groupby("case_id")[["n", "blood"]].sum()
    marked = marked.reindex(bins["case_id"].unique(), fill_value=0)
    reference = marked.index.map(reference_voxels).to_numpy(float)
    total = marked["n"] + reference
    return (2 * marked["blood"] / total.where(total > 0)).fillna(1.0)


def threshold(cases: pd.DataFrame, run_dir: Path, bins: Sequence[pd.DataFrame]):
    """Mean Dice by hemorrhage type for any threshold of the probability of blood, on a slider.

    Parameters
    ----------
    cases : case_id, hemorrhage_type, reference_mask (path from `run_dir`), read when the slider is first moved.
    bins : what `ich.predict.predict_cases` counted.

    Returns
    -------
    An ipywidgets box; its `children` are the slider and the table.
    """
    import ipywidgets

    at = ipywidgets.FloatSlider(
        value=0.5, min=0.1, max=0.9, step=0.1, description="threshold", continuous_update=False, disabled=not bins
    )
    text = "Move the slider: blood is then what is at least as probable. The report marks the most probable label."
    table = ipywidgets.HTML(text if bins else "Masks made elsewhere come without probabilities.")
    known: dict[str, int] = {}

    def show(_) -> None:
        every = pd.concat(list(bins))
        if not known:
            rows = cases[cases["case_id"].isin(every["case_id"])]
            known.update(
                {
                    str(row.case_id): int(np.count_nonzero(read_mask(run_dir / str(row.reference_mask))[0]))
                    for row in rows.itertuples()
                }
            )
        table.value = _by_type(dice_at(every, known, at.value), cases)

    at.observe(show, "value")
    return ipywidgets.VBox([at, table])
