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
    kinds = cases.set_index("case_id")["hemorrhage_type"].fillna("not stated")

    def show(_) -> None:
        dice = dice_without_specks(cases, run_dir, smallest.value)
        groups = {str(kind): part for kind, part in dice.groupby(kinds.reindex(dice.index))} | {"all": dice}
        rows = [{"type": kind, "n": len(part), "mean Dice": round(part.mean(), 3)} for kind, part in groups.items()]
        table.value = pd.DataFrame(rows).to_html(index=False)

    smallest.observe(show, "value")
    return ipywidgets.VBox([smallest, table])
