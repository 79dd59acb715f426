"""A table of volumes that were measured elsewhere, as 07 compares them: a row per scan, a column per method."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ich.given import read_given
from ich.pairs import require_columns
from ich.tables import check_ids


def listed(text: str) -> list[str]:
    """The names in a parameter that parts them by comma."""
    return [name.strip() for name in text.split(",") if name.strip()]


def readings_of(text: str) -> dict[str, list[str]]:
    """Columns of each reader's readings, by the first of them: readers are parted by comma, readings by +.

    Raises
    ------
    ValueError : a column is named twice.
    """
    found = [[name.strip() for name in each.split("+") if name.strip()] for each in listed(text)]
    every = [name for each in found for name in each]
    if twice := {name for name in every if every.count(name) > 1}:
        raise ValueError(f"readers={text}: column {min(twice)} is named twice")
    return {each[0]: each for each in found if each}


def as_readings(cases: pd.DataFrame, readings: dict[str, list[str]], labels: dict[str, str]) -> pd.DataFrame:
    """A row per case and columns by reader and reading, as `ich.readers.among_readers` takes them.

    Parameters
    ----------
    readings : of `readings_of`. labels : what a reader's first column is called.
    """
    columns = {(labels[first], n): cases[name] for first, each in readings.items() for n, name in enumerate(each, 1)}
    return pd.DataFrame(columns).set_axis(cases["case_id"])


def read_volumes(
    path: Path, reference: str, methods: Sequence[str] = (), others: Sequence[str] = (), patient: str = ""
) -> pd.DataFrame:
    """Volumes by case, ml.

    Parameters
    ----------
    path : CSV, as `ich.given.read_given` takes it.
    reference : column of the reference volume. methods : columns compared with it; none: every other column of numbers
        whose name ends in `_ml`.
    others : columns to keep besides, such as those to tell agreement apart by.
    patient : column of patients; empty: patient_id where the table has it, else every row is a patient.

    Returns
    -------
    case_id (`row 2`, as a spreadsheet counts, where the table has none), patient_id (running numbers in order of
    appearance: patients are not named in a report), the reference, the methods in order, and the others.

    Raises
    ------
    ValueError : a column that is not there, stands for two things or holds text where volumes are wanted, a volume
        below 0, a case that stands twice, or no column to compare.
    """
    table = read_given(path, numbers=True)
    patient = patient or ("patient_id" if "patient_id" in table else "")
    try:
        require_columns(table, reference, *methods, *others, *filter(None, [patient]))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    numeric = [name for name in map(str, table) if name.endswith("_ml") and table[name].dtype.kind in "fi"]
    methods = list(methods) or [name for name in numeric if name not in (reference, *others)]
    if not methods:
        raise ValueError(f"{path.name}: no column to compare with {reference}: name them with methods=")
    if twice := {name for name in methods if methods.count(name) > 1} | {reference} & set(methods):
        raise ValueError(f"{path.name}: column {min(twice)} is named twice among reference and methods")
    if "case_id" not in table:
        table = table.assign(case_id=[f"row {number}" for number in range(2, len(table) + 2)])
    ids = table["case_id"].astype(str).where(table["case_id"].notna(), "")
    check_ids(ids, path.name)
    if ids.duplicated().any():
        raise ValueError(
            f"{path.name}: case {ids[ids.duplicated()].iloc[0]} stands twice, wanted one row for each scan"
        )
    for name in (reference, *methods):
        _check_volumes(table[name], ids, f"{path.name}: {name}")
    whose = ids if not patient else table[patient].astype(object).where(table[patient].notna(), ids)
    numbers = pd.factorize(whose.astype(str))[0] + 1
    found = pd.DataFrame({"case_id": ids, "patient_id": [f"patient-{number:04d}" for number in numbers]})
    for name in (reference, *methods):
        found[name] = table[name].astype(float)
    return found.assign(**{name: table[name] for name in others if name not in found})


def _check_volumes(column: pd.Series, ids: pd.Series, where: str) -> None:
    if column.dtype.kind not in "fi" and column.notna().any():
        read = pd.to_numeric(column, errors="coerce")
        text = column.notna() & read.isna()
        row = int((text if text.any() else column.notna()).to_numpy().argmax())
        raise ValueError(f"{where}: case {ids[row]} is {column[row]!r}, wanted a volume in ml")
    values = column.astype(float)
    bad = (values < 0) | np.isinf(values)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise ValueError(f"{where}: case {ids[row]} is {values[row]:g}, wanted a volume of 0 or more")
