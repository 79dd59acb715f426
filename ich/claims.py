"""Whether figures and README say what the tables of a run hold."""

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd

from ich import drawn, tables
from ich.canvas import column_label
from ich.tables import for_abc2
from ich.wording import number

CHECKED = ("bland_altman", "scatter")
QUOTED = re.compile(r"<!-- (\w+):(\w+):([^>]*?) -->(-?[\d.]+)")


def compared_cases(run: Path) -> tuple[pd.DataFrame, str]:
    """The cases whose volumes a run compares, and the column of the reference.

    Raises
    ------
    FileNotFoundError : the run compares none.
    """
    folder = run / "tables"
    if (folder / "volumes.csv").is_file():  # 07: the reference comes first
        table = pd.read_csv(folder / "volumes.csv", dtype={"case_id": "str", "patient_id": "str"})
        return table, str(table.columns[2])
    alone = folder / "measurements_parenchymal.csv"
    if alone.is_file():
        return for_abc2(tables.read(alone, "measurements"), mixed=True), "reference_ml"
    return for_abc2(tables.read(folder / "measurements.csv")), "reference_ml"


def of_figures(
    run: Path, cases: pd.DataFrame, summary: pd.DataFrame, reference: str = "reference_ml"
) -> tuple[int, list[str]]:
    """Numbers compared in the Bland-Altman and scatter figures of a run, and what differs, each a sentence.

    Parameters
    ----------
    cases, reference : of `compared_cases`. summary : the run's agreement_summary.csv. Readers' volumes, which are no
        columns of the first, are passed over.

    Raises
    ------
    ValueError : a figure's description of itself cannot be read.
    """
    columns = {column_label(column): column for column in map(str, cases.select_dtypes("number"))}
    compared, wrong = 0, []
    for name in CHECKED:
        for svg in sorted((run / "figures").glob(f"{name}*.svg")):
            if svg.stem.removesuffix("_simulated") != name:
                continue
            for panel in drawn.read(svg):
                method = re.split(" − | volume", panel["y_label"])[0]
                if method not in columns:
                    continue
                first, second = (cases[column].to_numpy(float) for column in (columns[method], reference))
                points = ((first + second) / 2, first - second) if name == "bland_altman" else (second, first)
                wanted = np.column_stack(points)[
                    np.isfinite(first) & np.isfinite(second)
                ]  # what is missing is not drawn
                compared += len(wanted)
                if not _same(wanted, np.column_stack([panel["x"], panel["y"]])):
                    wrong.append(f"figures/{svg.name}: the points of {method} are not those of the table")
                rows = summary[summary["method"] == panel["title"].removesuffix(", simulated")]
                for text in _limits(rows.iloc[0]) if name == "bland_altman" and len(rows) == 1 else []:
                    compared += 1
                    if not any(text in shown for shown in panel["texts"]):
                        wrong.append(f"figures/{svg.name}: {method}: agreement_summary.csv has {text}, the figure not")
    return compared, wrong


def _same(wanted: np.ndarray, shown: np.ndarray) -> bool:
    """Whether two sets of points (n, 2) are equal to seven digits, in any order."""
    if wanted.shape != shown.shape:
        return False
    one, other = (points[np.lexsort(np.round(points, 4).T)] for points in (wanted, shown))
    return bool(np.allclose(one, other, rtol=1e-6, atol=1e-5))


def _limits(row: pd.Series) -> list[str]:
    """How a figure words bias and limits."""
    digits = 2 if max(abs(row["loa_lower"]), abs(row["loa_upper"])) < 2 else 1
    named = {"bias": "bias", "lower limit": "loa_lower", "upper limit": "loa_upper"}
    return [f"{word} {number(row[column], digits)}" for word, column in named.items()]


def of_text(text: str, folder: Path) -> tuple[int, list[str]]:
    """Numbers that a text quotes from a folder of tables, and what differs, each a sentence.

    A quoted number stands behind `<!-- table:column:key=value;key=value -->`, which names its cell.
    """
    marks = QUOTED.findall(text)
    wrong = []
    for table, column, key, shown in marks:
        path = folder / f"{table}.csv"
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
        wanted = dict(part.split("=", 1) for part in key.split(";")) if key else {}
        found = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
        if len(found) != 1 or column not in found[0]:
            wrong.append(f"{table}.csv: {len(found)} rows have {key}, wanted one with {column}")
            continue
        digits = len(shown.partition(".")[2])
        if abs(float(shown) - float(found[0][column])) > 0.5000001 * 10**-digits:
            wrong.append(f"{table}.csv, {key}: {column} is {found[0][column]}, quoted as {shown}")
    return len(marks), wrong
