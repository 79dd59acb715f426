"""Figures show the numbers they are given, with n, and say so when the data are simulated."""

import inspect

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ich import figures
from ich.bland_altman import bland_altman, bland_altman_percent, bland_altman_ratio
from ich.comparison import absolute_errors_by_group, volume_group
from ich.nonparametric import mountain
from ich.planning import width_curve
from ich.published import ANCHORS, PAPER_DICE, PAPER_ERRORS
from ich.regression import passing_bablok
from ich.resampling import mean_by_group
from ich.volume_classes import confusion
from ich.volume_limits import regression_limits

mpl.use("Agg")


@pytest.fixture
def volumes() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = np.exp(rng.normal(2.7, 1.2, 50))
    table = pd.DataFrame({"case_id": [f"{i:03d}" for i in range(50)], "reference_ml": truth})
    table["network_ml"] = truth * rng.lognormal(0, 0.08, 50)
    table["abc2_ml"] = truth * rng.lognormal(-0.1, 0.25, 50)
    table.loc[3, "network_ml"] = np.nan
    table["group"] = volume_group(truth)
    return table


@pytest.fixture
def ax():
    fig, ax = figures.subplots()
    yield ax
    fig.canvas.draw()  # a figure that cannot be laid out warns here
    plt.close(fig)


def words(ax) -> str:
    """Every text of the axes."""
    legend = ax.get_legend()
    found = [ax.get_title("left"), ax.get_title("right"), ax.get_xlabel(), ax.get_ylabel()]
    found += [text.get_text() for text in ax.texts]
    found += [label.get_text() for label in (*ax.get_xticklabels(), *ax.get_yticklabels())]
    found += [text.get_text() for text in legend.get_texts()] if legend else []
    return "\n".join(found)


def heights(ax) -> list[float]:
    return [float(line.get_ydata()[0]) for line in ax.lines if len(set(np.asarray(line.get_ydata()).tolist())) == 1]


@pytest.mark.parametrize("statistic", [bland_altman, bland_altman_percent, bland_altman_ratio])
def test_bland_altman_draws_the_row_it_is_given(volumes, ax, statistic):
    stats = statistic(volumes.network_ml, volumes.reference_ml)
    figures.draw_bland_altman(
        volumes,
        stats,
        ax,
        method="network_ml",
        reference="reference_ml",
        group="group",
        margin=20,
        simulated=True,
    )
    for value in (stats.bias, stats.loa_lower, stats.loa_upper):
        assert any(value == pytest.approx(height) for height in heights(ax))
    assert "n = 49, 1 missing" in words(ax)
    assert "simulated" in ax.get_title("left")
    assert "margin" in words(ax)
    drawn = sum(len(points.get_offsets()) for points in ax.collections if len(points.get_offsets()))
    assert drawn == 49


def test_bland_altman_knows_two_x_axes(volumes, ax):
    stats = bland_altman(volumes.abc2_ml, volumes.reference_ml)
    options = {"method": "abc2_ml", "reference": "reference_ml"}
    figures.draw_bland_altman(volumes, stats, ax, x="reference", log_x=True, **options)
    assert np.asarray(ax.collections[-1].get_offsets())[:, 0].tolist() == volumes.reference_ml.tolist()
    with pytest.raises(ValueError, match="wanted 'mean' or 'reference'"):
        figures.draw_bland_altman(volumes, stats, ax, x="method", **options)


def test_regression_limits(volumes, ax):
    stats = regression_limits(volumes.abc2_ml, volumes.reference_ml)
    figures.draw_regression_limits(
        volumes,
        stats,
        ax,
        method="abc2_ml",
        reference="reference_ml",
        group="group",
        margin=5,
        simulated=True,
    )
    assert "n = 50" in words(ax)
    assert f"{abs(stats.b1):.3f} V" in words(ax)


@pytest.mark.parametrize("log", [False, True])
def test_scatter(volumes, ax, log):
    known = volumes.dropna()
    fit = passing_bablok(known.network_ml, known.reference_ml)
    figures.draw_scatter(volumes, fit, ax, method="network_ml", reference="reference_ml", log=log, simulated=True)
    assert "n = 49" in words(ax)
    assert f"slope {fit.slope:.2f}" in words(ax)
    assert "identity" in words(ax)


def test_scatter_counts_what_a_logarithm_cannot_show(volumes, ax):
    volumes.loc[0, "abc2_ml"] = 0
    figures.draw_scatter(volumes, None, ax, method="abc2_ml", reference="reference_ml", log=True)
    assert "n = 50, 1 at zero not shown" in words(ax)


def test_mountain(volumes, ax):
    tables = {name: mountain(volumes[name], volumes.reference_ml) for name in ("network_ml", "abc2_ml")}
    figures.draw_mountain(tables, ax, simulated=True)
    assert "network_ml (n = 49)" in words(ax)


def test_error_by_group_stands_beside_the_published(volumes, ax):
    errors = absolute_errors_by_group(volumes, "reference_ml", ["network_ml", "abc2_ml"])
    figures.draw_error_by_group(errors, ax, published=PAPER_ERRORS, simulated=True)
    assert "19.31 ± 17.23" in words(ax)
    assert "ABC/2, published (other data)" in words(ax)
    row = errors.iloc[1]
    assert f"{row.mean_ml:.2f} ± {row.sd_ml:.2f}" in words(ax)
    assert f"n = {errors.iloc[0].n}" in words(ax)


def test_error_by_volume_and_by_another_column(volumes, ax):
    figures.draw_error_by_volume(
        volumes, ax, methods={"network_ml": "network"}, reference="reference_ml", simulated=True
    )
    assert "network (n = 49)" in words(ax)
    _, other = figures.subplots()
    figures.draw_error_by_volume(
        volumes.assign(solidity=0.9),
        other,
        methods={"abc2_ml": "ABC/2"},
        reference="reference_ml",
        x="solidity",
    )
    assert other.get_xlabel() == "solidity"


def test_confusion(volumes, ax):
    counts = confusion(volumes.abc2_ml, volumes.reference_ml)
    figures.draw_confusion(counts, ax, simulated=True)
    assert "n = 50" in words(ax)
    assert str(counts.iloc[0, 0]) in words(ax)


def test_forest_marks_what_is_published():
    fig, ax = figures.subplots(size_mm=(130, 60))
    anchors = ANCHORS[ANCHORS["measure"] == "bias, ml"].rename(columns={"study": "label"})
    run = {"label": "this run", "value": 0.2, "low": -3.0, "high": 3.4, "n": 97, "published": False}
    figures.draw_forest(
        pd.concat([pd.DataFrame([run]), anchors.assign(published=True)]),
        ax,
        value_label="bias, ml",
        simulated=True,
    )
    assert "n = 118, limits of agreement" in words(ax)
    assert "hollow: published, other data" in words(ax)
    fig.canvas.draw()


def test_planning(ax):
    figures.draw_planning(width_curve(), ax, sd=4.0)
    assert ax.lines[0].get_ydata()[0] == pytest.approx(2.566, abs=1e-3)


def test_reliability_shows_every_bin_that_holds_voxels():
    bins = pd.DataFrame(
        {"n": [900, 0, 100], "probability": [0.05, np.nan, 0.9], "share": [0.02, np.nan, 0.95], "blood": [18, 0, 95]}
    )
    fig, ax = figures.subplots()
    figures.draw_reliability(bins, ax, error=0.032)
    assert len(ax.collections[-1].get_offsets()) == 2
    assert "0.032" in " ".join(text.get_text() for text in ax.texts)
    plt.close(fig)


@pytest.fixture
def cohort() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hemorrhage_type": ["parenchymal"] * 6 + ["mixed"] * 4 + ["ventricular"] * 2,
            "reference_volume_ml": [1, 3, 9, 20, 40, 80, 5, 8, 60, 0, 4, np.nan],
            "slice_spacing_mm": [5.0] * 8 + [4.0] * 3 + [np.nan],
            "tilt_deg": [0.0] * 6 + [-15.2] * 6,
            "slice_spacing_uniform": [True] * 9 + [False] * 3,
        }
    )


def test_volume_distribution(cohort, ax):
    figures.draw_volume_distribution(cohort, ax, simulated=True)
    assert "parenchymal\nn = 6" in words(ax)
    assert "mixed\nn = 4, 1 at 0 ml" in words(ax)


def test_spacing_and_tilt(cohort, ax):
    figures.draw_spacing_tilt(cohort, ax, simulated=True)
    assert "n = 11, 1 unknown" in words(ax)
    assert "mixed spacing (median shown), n = 2" in words(ax)


def test_flow(ax):
    stages = pd.DataFrame(
        [
            ("scans found", 12, "empty reference mask: 2", False),
            ("scans included", 10, "", False),
            ("train", 6, "", True),
            ("test", 4, "", True),
        ],
        columns=["stage", "n", "excluded", "branch"],
    )
    figures.draw_flow(stages, ax, simulated=True)
    for text in ("scans found\nn = 12", "empty reference mask: 2", "test\nn = 4"):
        assert text in words(ax)


def test_flow_without_branches(ax):
    stages = pd.DataFrame(
        {"stage": ["masks found", "measured"], "n": [3, 3], "excluded": ["", ""], "branch": [False, False]}
    )
    figures.draw_flow(stages, ax)
    assert "measured\nn = 3" in words(ax)


def test_training_marks_the_weights_kept():
    history = pd.DataFrame({"step": [50, 100, 150], "loss": [0.8, 0.5, 0.4], "validation_dice": [0.5, 0.8, np.nan]})
    fig, axes = figures.subplots(1, 2)
    figures.draw_training(history, axes, simulated=True)
    assert "kept: 0.800 at step 100" in words(axes[1])
    fig.canvas.draw()


def test_dice_by_type(ax):
    metrics = pd.DataFrame(
        {
            "hemorrhage_type": ["mixed"] * 3 + ["parenchymal"] * 4,
            "dice": [0.6, 0.7, 0.8, 0.9, 0.8, 0.85, 0.95],
        }
    ).assign(patient_id=list("abcddef"))
    summary = mean_by_group(metrics, "dice", "hemorrhage_type")
    figures.draw_dice_by_type(metrics, summary, ax, published=PAPER_DICE, simulated=True)
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "parenchymal\nn = 4 (3 patients)",
        "mixed\nn = 3",
    ]


def test_every_figure_can_say_that_its_data_are_simulated():
    drawing = [getattr(figures, name) for name in figures.__all__ if name.startswith("draw_")]
    assert len(drawing) == 19
    for draw in drawing:
        assert inspect.signature(draw).parameters["simulated"].default is False
