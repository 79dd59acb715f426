"""Figures and texts are held against tables: what is drawn is found again, and what is changed is named."""

import numpy as np
import pandas as pd
import pytest

from ich import agreement, claims, drawn, figures
from ich.tables import for_abc2

LABELS = {"network_ml": "network", "abc2_ml": "ABC/2"}


@pytest.fixture
def run(tmp_path):
    """Six cases, one of them ventricular, with their Bland-Altman and scatter figures as 04 draws them."""
    measured = pd.DataFrame(
        {
            "case_id": list("abcdef"),
            "hemorrhage_type": ["parenchymal"] * 5 + ["ventricular"],
            "reference_ml": [1.5, 8.0, 20.0, 33.0, 61.0, 12.0],
            "network_ml": [1.4, 8.6, 19.1, 34.0, 60.2, 30.0],
            "abc2_ml": [1.9, 9.9, 15.0, 44.0, np.nan, 3.0],
        }
    )
    cases = measured[measured["hemorrhage_type"] == "parenchymal"]
    fig, axes = figures.subplots(1, 2)
    other, scatter = figures.subplots(1, 2)
    rows = []
    for ax, beside, (column, label) in zip(axes, scatter, LABELS.items(), strict=True):
        stats = agreement.bland_altman(cases[column], cases["reference_ml"])
        shown = {"method": column, "reference": "reference_ml", "title": label, "simulated": True}
        figures.draw_bland_altman(cases, stats, ax, **shown)
        figures.draw_scatter(cases, None, beside, **shown)
        rows.append({"method": label, "bias": stats.bias, "loa_lower": stats.loa_lower, "loa_upper": stats.loa_upper})
    figures.keep(fig, tmp_path, "bland_altman", "Bland-Altman.", True)
    figures.keep(other, tmp_path, "scatter", "Scatter.", True)
    return tmp_path, measured, pd.DataFrame(rows)


def test_what_was_drawn_is_found_again(run):
    folder, measured, summary = run
    compared, wrong = claims.of_figures(folder, for_abc2(measured), summary)
    assert wrong == []
    assert compared == 2 * (5 + 4) + 2 * 3  # points in two figures; bias and two limits of two methods
    panels = drawn.read(folder / "figures" / "bland_altman_simulated.svg")
    assert panels[0]["y"] == pytest.approx([-0.1, 0.6, -0.9, 1.0, -0.8])  # on paper: network - reference


def test_a_changed_volume_is_named(run):
    folder, measured, summary = run
    measured.loc[2, "network_ml"] += 0.01
    _, wrong = claims.of_figures(folder, for_abc2(measured), summary)
    assert wrong == [
        f"figures/{name}_simulated.svg: the points of network are not those of the table"
        for name in ("bland_altman", "scatter")
    ]


def test_a_changed_limit_is_named(run):
    folder, measured, summary = run
    summary.loc[1, "loa_upper"] += 1
    _, wrong = claims.of_figures(folder, for_abc2(measured), summary)
    assert len(wrong) == 1
    assert "ABC/2: agreement_summary.csv has upper limit" in wrong[0]


def test_a_foreign_figure_claims_nothing(run):
    folder, measured, summary = run
    for path in (folder / "figures").glob("*.svg"):
        path.write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    assert claims.of_figures(folder, for_abc2(measured), summary) == (0, [])


def test_quoted_numbers_are_held_against_their_cells(tmp_path):
    (tmp_path / "volumes.csv").write_text("method,n,bias\nnetwork,27,-1.0316\nABC/2,27,11.058\n")

    def said(text):
        return claims.of_text(text, tmp_path)

    assert said("<!-- volumes:bias:method=network -->-1.03 and <!-- volumes:n:method=ABC/2 -->27") == (2, [])
    assert said("<!-- volumes:bias:method=network -->-1.04")[1] == [
        "volumes.csv, method=network: bias is -1.0316, quoted as -1.04"
    ]
    assert said("<!-- volumes:bias:n=27 -->1")[1] == ["volumes.csv: 2 rows have n=27, wanted one with bias"]
    assert said("<!-- other:bias:n=27 -->1")[1] == ["other.csv: 0 rows have n=27, wanted one with bias"]
