"""A table of volumes from elsewhere: what is read, what is refused, and the study of it against published answers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich.cli import main
from ich.verify import verify_run
from ich.volume_table import listed, read_volumes, readings_of

ROOT = Path(__file__).resolve().parents[1]
TABLE = "case_id;patient_id;site;plan_ml;abc2_ml;age\nx1;MRN 7;A;10,5;12;60\nx2;MRN 3;B;;3,25;71\nx3;MRN 7;A;0;1;60\n"


@pytest.fixture
def given(tmp_path):
    def write(text: str = TABLE) -> Path:
        path = tmp_path / "volumes.csv"
        path.write_text(text)
        return path

    return write


def test_volumes_are_read_as_a_spreadsheet_writes_them(given):
    table = read_volumes(given(), "plan_ml", others=["site"])
    assert table.columns.tolist() == ["case_id", "patient_id", "plan_ml", "abc2_ml", "site"]  # age is no volume
    assert table["patient_id"].tolist() == ["patient-0001", "patient-0002", "patient-0001"]
    assert table["plan_ml"].tolist() == pytest.approx([10.5, np.nan, 0], nan_ok=True)
    assert table["abc2_ml"].tolist() == [12, 3.25, 1]
    assert read_volumes(given(), "plan_ml", ["abc2_ml"], patient="case_id")["patient_id"].nunique() == 3


def test_rows_without_names_are_called_as_a_spreadsheet_counts_them(given):
    table = read_volumes(given("truth,other\n1,2\n3,4\n"), "truth", ["other"])
    assert table["case_id"].tolist() == ["row 2", "row 3"]
    assert table["patient_id"].tolist() == ["patient-0001", "patient-0002"]


@pytest.mark.parametrize(
    ("text", "reference", "methods", "said"),
    [
        (TABLE, "truth_ml", [], r"volumes\.csv: no column truth_ml; found case_id, patient_id"),
        (TABLE, "plan_ml", ["sabc2_ml"], r"no column sabc2_ml"),
        (TABLE, "plan_ml", ["abc2_ml", "abc2_ml"], "column abc2_ml is named twice"),
        (TABLE, "plan_ml", ["plan_ml"], "column plan_ml is named twice"),
        (TABLE.replace("3,25", "many"), "plan_ml", ["abc2_ml"], "abc2_ml: case x2 is 'many', wanted a volume in ml"),
        (TABLE.replace("3,25", "-3,25"), "plan_ml", [], r"abc2_ml: case x2 is -3\.25, wanted a volume of 0 or more"),
        (TABLE.replace("3,25", "inf"), "plan_ml", [], "abc2_ml: case x2 is inf, wanted"),
        (TABLE.replace("x3", "x1"), "plan_ml", [], "case x1 stands twice, wanted one row for each scan"),
        ("case_id,plan_ml\na,1\n", "plan_ml", [], "no column to compare with plan_ml"),
    ],
)
def test_what_is_no_table_of_volumes_is_said(given, text, reference, methods, said):
    with pytest.raises(ValueError, match=said):
        read_volumes(given(text), reference, methods)


def test_names_in_a_parameter_are_parted_by_comma():
    assert listed(" site, shape ,") == ["site", "shape"]
    assert listed("") == []


def test_readings_of_one_reader_are_joined_by_plus():
    assert readings_of(" a1 + a2,b1 ,") == {"a1": ["a1", "a2"], "b1": ["b1"]}
    assert readings_of("") == {}
    with pytest.raises(ValueError, match=r"readers=a1\+a1: column a1 is named twice"):
        readings_of("a1+a1")


def study(tmp_path: Path, table: Path, *settings: str) -> Path:
    """Run folder of `ich study volumes`, in a copy of the notebooks."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "tests" / "data", tmp_path / "tests" / "data")
    chosen = [part for text in (f"volumes={table}", *settings) for part in ("--set", text)]
    folders = ["--reports", str(tmp_path / "reports"), "--notebooks", str(tmp_path / "notebooks")]
    assert main(["study", "volumes", *chosen, *folders]) == 0
    return tmp_path / "reports" / "volumes"


def test_a_published_table_gives_the_published_limits(tmp_path):
    """Bland & Altman 1986, Lancet i:307: 17 subjects, large and mini meter, bias -2.1, limits -78.1 and 73.9 l/min.

    SD of two readings of a subject 15.3 (large) and 19.9 (mini): Bland & Altman 1999, section 4.1.
    """
    settings = ("reference=mini1", "methods=wright1", "readers=wright1+wright2,mini1+mini2")
    run = study(tmp_path, ROOT / "tests" / "data" / "pefr_1986.csv", *settings)
    row = pd.read_csv(run / "tables" / "agreement.csv").query("stratum == 'all'").iloc[0]
    assert row["n"] == 17
    assert row[["bias", "loa_lower", "loa_upper"]].tolist() == pytest.approx([-2.1, -78.1, 73.9], abs=0.05)
    among = pd.read_csv(run / "tables" / "reader_agreement.csv").set_index("kind")
    again = among.loc["same reader", "repeatability_ml"] / (1.96 * 2**0.5)
    assert again.tolist() == pytest.approx([15.3, 19.9], abs=0.05)
    assert among.loc["between readers", "loa_lower"] == pytest.approx(-78.1, abs=0.05)
    assert pd.read_csv(run / "tables" / "agreement.csv")["method"].unique().tolist() == ["wright1"]
    assert verify_run(run).wrong == []


def test_methods_sites_and_growth_of_a_table_are_reported_without_names(tmp_path):
    random = np.random.default_rng(5)
    first = np.exp(random.normal(3, 0.8, 24))
    rows = [
        {"patient_id": f"Mustermann {number}", "scan": scan, "site": "AB"[number % 2], "plan_ml": volume,
         "abc2_ml": volume * random.uniform(0.9, 1.3), "reader_ml": volume * random.uniform(0.95, 1.05)}
        for number, start in enumerate(first)
        for scan, volume in (("day 0", start), ("day 1", start * (1.6 if number < 6 else 1.0)))
    ]  # fmt: skip
    table = tmp_path / "measured.csv"
    pd.DataFrame(rows).assign(rare_ml=[5.0, 6.0] + [None] * 46).to_csv(table, index=False)
    settings = ("reference=plan_ml", "by=site", "visit=scan", "baseline=day 0")
    run = study(tmp_path, table, *settings)
    agreed = pd.read_csv(run / "tables" / "agreement.csv").set_index(["method", "stratum"])
    assert agreed.loc[("abc2_ml", "site: A"), ["n", "n_patients"]].tolist() == [24, 12]
    assert agreed.loc[("reader_ml", "all"), "n"] == 48
    grown = pd.read_csv(run / "tables" / "expansion.csv").set_index("method")
    assert grown.loc["reader_ml", ["n", "n_expanded"]].tolist() == [24, 6]
    assert grown.loc["reader_ml", "sensitivity"] == 1  # 60 % of growth less 10 % of error is over 33 %
    page = (run / "html" / "index.html").read_text()
    assert "How well do volumes of ABC/2 and reader agree with the reference volume?" in page
    assert "reader&#39;s by" in page
    items = pd.read_csv(run / "tables" / "checklists.csv").set_index(["checklist", "item"])
    notebook = (run / "html" / "07_volumes.html").read_text()
    for place in items["place"].dropna():
        name, _, key = place.partition(".html#")
        assert f'id="{key}"' in (page if name == "index" else notebook), place
    assert items.loc[("Bland-Altman", 8), "place"].startswith("07_volumes")
    for path in run.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".html", ".ipynb", ".json", ".yaml", ".svg", ".tex"):
            assert "Mustermann" not in path.read_text(), path
    answer = json.loads((run / "tables" / "answer.json").read_text())
    assert answer["simulated"] is False
    assert any("not compared: rare_ml (2 scans)" in said for said in answer["limits"])
    assert verify_run(run).wrong == []
