import json

import nbformat
import pandas as pd
import pytest
import yaml

from ich import runs
from ich.cli import main

PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "mine"
    (folder / "tables").mkdir(parents=True)
    chosen = {"source": "bhsd", "root": "…", "masks": "", "n_cases": 150, "test_share": 0.3}
    settings = {"title": "A study", "profile": "demo", "parameters": {"01_cohort": chosen, "02_training": {"steps": 9}}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    pd.DataFrame({"case_id": ["a", "b", "c"], "included": [True, True, False]}).to_csv(
        folder / "tables" / "cohort.csv", index=False
    )
    return folder


def test_an_unfinished_run_says_what_it_has(run):
    assert runs.describe(run).splitlines() == [
        "  mine: A study, unfinished",
        "    set source=bhsd, root=…, steps=9",
        "    2 of 3 cases",
    ]


def test_a_finished_run_shows_its_headline_figures(run, tmp_path, capsys):
    (run / "manifest.json").write_text(json.dumps({"ended": "2026-01-02T03:04:05+00:00"}))
    splits = pd.DataFrame({"case_id": ["a", "b"], "split": ["train", "test"]})
    dice = pd.DataFrame(
        {"hemorrhage_type": "mixed", "reader": ["network", "second_reader"], "n": 7, "mean": [0.851, 0.9]}
    )
    bias = pd.DataFrame({"method": ["network"], "bias": [-1.04], "loa_lower": [-5.61], "loa_upper": [3.6]})
    for name, table in {"splits": splits, "dice_by_type": dice, "agreement_summary": bias}.items():
        table.to_csv(run / "tables" / f"{name}.csv", index=False)
    assert main(["list", "--reports", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "mine: A study, finished 2026-01-02 03:04" in said
    assert "2 of 3 cases: 1 train, 1 test" in said
    assert "Dice mixed 0.85 (n = 7)" in said
    assert "network -1.0 (-5.6 to 3.6)" in said


def test_parameters_of_a_notebook_with_their_meaning(tmp_path, capsys):
    cell = nbformat.v4.new_code_cell(
        'share: float = 0.5  # of the cases\nname: str = ""', metadata={"tags": ["parameters"]}
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=PYTHON), tmp_path / "01_x.ipynb")
    assert main(["help", "01_x", "--notebooks", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "share (float, default 0.5)",
        "    of the cases",
        'name (str, default "")',
    ]
    assert main(["help", "02_x", "--notebooks", str(tmp_path)]) == 2
    assert "no notebook 02_x; there are 01_x" in capsys.readouterr().err


def test_open_wants_a_finished_report(tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    assert main(["open", "mine", "--reports", str(tmp_path)]) == 2
    assert "no finished report" in capsys.readouterr().err
    page = tmp_path / "mine" / "html" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>done</p>")
    assert main(["open", "mine", "--reports", str(tmp_path)]) == 0
    assert shown == [page.resolve().as_uri()]


def test_a_damaged_run_does_not_hide_the_others(run, tmp_path, capsys):
    (run / "tables" / "splits.csv").write_text("case_id;split\na;train\n")  # as some spreadsheets save it
    other = tmp_path / "other"
    other.mkdir()
    (other / "settings.yaml").write_text((run / "settings.yaml").read_text())
    assert main(["list", "--reports", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "mine: cannot be told (KeyError: 'split')" in said
    assert "other: A study, unfinished" in said
