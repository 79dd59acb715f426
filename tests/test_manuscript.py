"""Tables for the manuscript: what stands in them is what the CSV tables hold, in LaTeX and in Word."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from docx import Document

from ich.manuscript import docx, latex, write_manuscript
from ich.print_tables import PrintTable, print_tables

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "reports" / "demo"
SHOWN = print_tables(DEMO, simulated=True)


def numbers(text: str) -> list[float]:
    """The numbers of a cell; a range 5-25 has two."""
    return [float(found) for found in re.findall(r"(?<![\d.])-?\d+(?:\.\d+)?", text)]


def from_latex(text: str) -> list[list[str]]:
    """Cells of the rows between the rules, read as a reader of the source would."""
    inside = text.partition("\\midrule")[2].partition("\\bottomrule")[0].replace("\\addlinespace", "")
    rows = [row.strip() for row in inside.split(r"\\") if row.strip()]
    plain = [row.replace("$-$", "-").replace("--", " ").replace(r"\%", "%") for row in rows]
    return [[cell.strip() for cell in row.split("&")] for row in plain]


def from_word(content: bytes) -> list[list[str]]:
    """Cells of the only table of a document."""
    (table,) = Document(io.BytesIO(content)).tables
    clean = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": " "})
    return [[cell.text.translate(clean) for cell in row.cells] for row in table.rows[1:]]


READ = {"tex": lambda table: from_latex(latex(table)), "docx": lambda table: from_word(docx(table))}


def close(cell: str, values: list[float], digits: int) -> None:
    known = [value for value in values if not pd.isna(value)]
    assert numbers(cell) == pytest.approx(known, abs=0.5000001 * 10**-digits), cell


@pytest.mark.parametrize("kind", READ)
def test_dice_stands_as_in_the_csv(kind):
    table = pd.read_csv(DEMO / "tables" / "dice_by_type.csv").set_index(["reader", "hemorrhage_type"])
    rows = READ[kind](SHOWN["dice_by_type"])
    assert [row[0] for row in rows] == ["parenchymal", "ventricular", "subarachnoid", "mixed"]
    for cells in rows:
        for reader, cell in (("network", cells[2]), ("second_reader", cells[3])):
            row = table.loc[(reader, cells[0])]
            close(cell, [row["mean"], row["mean_ci_low"], row["mean_ci_high"]], 2)
        row = table.loc[("network", cells[0])]
        assert numbers(cells[1]) == [row["n"], row["n_patients"]]
        assert float(cells[4]) == row["published_dice"]


@pytest.mark.parametrize("kind", READ)
def test_errors_stand_as_in_the_csv(kind):
    table = pd.read_csv(DEMO / "tables" / "error_by_group.csv")
    rows = READ[kind](SHOWN["error_by_group"])
    assert len(rows) == len(table)
    for cells, row in zip(rows, table.to_dict("records"), strict=True):
        assert int(cells[2]) == row["n"]
        close(cells[3], [row["mean_ml"], row["sd_ml"]], 2)
        close(cells[-1], [row["published_mean_ml"], row["published_sd_ml"]], 2)
        if "mean_ci_low" in row:
            close(cells[4], [row["mean_ci_low"], row["mean_ci_high"]], 2)


@pytest.mark.parametrize("kind", READ)
def test_agreement_stands_as_in_the_csv(kind):
    table = pd.read_csv(DEMO / "tables" / "agreement.csv").query("stratum == 'all'")
    rows = READ[kind](SHOWN["agreement"])
    assert len(rows) == len(table)
    for cells, row in zip(rows, table.to_dict("records"), strict=True):
        assert numbers(cells[1]) == [row["n"], row["n_patients"]]
        for column, name, digits in (
            (2, "bias", 1), (3, "median_difference", 1), (5, "loa_lower", 1), (6, "loa_upper", 1), (7, "ccc", 3),
            (8, "within_5_ml", 2),
        ):  # fmt: skip
            interval = [row[f"{name}_ci_low"], row[f"{name}_ci_high"]] if f"{name}_ci_low" in row else []
            close(cells[column], [row[name], *interval], digits)
        close(cells[4], [row["sd"]], 1)


@pytest.mark.parametrize("kind", READ)
def test_table_1_stands_as_in_the_csv(kind):
    table = pd.read_csv(DEMO / "tables" / "table1_by_split.csv", dtype=str)
    volumes = pd.read_csv(DEMO / "tables" / "table1.csv").query("hemorrhage_type == 'all'").set_index("split")
    rows = READ[kind](SHOWN["table1"])
    splits = ["all", "train", "validation", "test"]
    assert [int(cell) for cell in rows[1][1:]] == volumes.loc[splits, "patients"].tolist()
    assert [row[0] for row in rows].count("Patients, n") == 1
    printed = [numbers(" ".join(row[1:])) for row in rows if any(row[1:])]
    wanted = [numbers(" ".join(row[name].replace(",", " ") for name in splits)) for row in table.to_dict("records")]
    assert printed == wanted


@pytest.mark.parametrize("name", SHOWN)
def test_every_table_states_n_its_intervals_and_that_it_is_simulated(name):
    table = SHOWN[name]
    said = f"{' '.join(table.header)} {table.notes} {' '.join(row[0] for row in table.rows)}"
    assert re.search(r"\bn\b", said)
    assert "interval" in table.notes
    assert table.title.endswith("(simulated data)")
    assert table.notes in "".join(p.text for p in Document(io.BytesIO(docx(table))).paragraphs)


def test_what_latex_would_read_as_commands_is_escaped():
    table = PrintTable("t", "50 % & more", ("a_b", "n"), (("<5 {x} ±~#$^\\", "\N{MINUS SIGN}1"),), "95 % interval")
    text = latex(table)
    assert r"50 \% \& more" in text
    assert r"a\_b & n \\" in text
    assert r"\textless{}5 \{x\} $\pm$\textasciitilde{}\#\$\textasciicircum{}\textbackslash{} & $-$1 \\" in text


def test_files_are_the_same_each_time_and_carry_no_author(tmp_path):
    files = write_manuscript(SHOWN.values(), tmp_path)
    assert sorted(path.name for path in files) == sorted(f"{n}.{kind}" for n in SHOWN for kind in ("tex", "docx"))
    before = {path: path.read_bytes() for path in files}
    assert {path: path.read_bytes() for path in write_manuscript(SHOWN.values(), tmp_path)} == before
    assert Document(str(tmp_path / "table1.docx")).core_properties.author == ""


def test_latex_sets_every_table_within_the_page(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX on this machine")
    write_manuscript(SHOWN.values(), tmp_path)
    inputs = "".join(rf"\input{{{name}}}" for name in SHOWN)
    head = r"\documentclass{article}\usepackage[a4paper,margin=22mm]{geometry}\usepackage{booktabs,rotating}"
    (tmp_path / "all.tex").write_text(rf"{head}\begin{{document}}{inputs}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Missing character" not in (tmp_path / "all.log").read_text()
