"""Tables that a user gives, as Excel and other programs write them: any delimiter, decimal comma, padded cells."""

import codecs
import csv
import io
import re
from pathlib import Path

import pandas as pd

from ich.tables import HEMORRHAGE_TYPES, SPLITS, check_ids

DELIMITERS = (",", ";", "\t")
WITH_COMMA = r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?"
WITH_POINT = r"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?"
OWN_PATIENT = "cases have no patient_id: each counts as a patient of its own"


def read_given(path: Path, *, numbers: bool = False) -> pd.DataFrame:
    """A table as text without the blanks around its cells and without empty rows; decimal commas become points.

    Parameters
    ----------
    numbers : whether columns whose every cell is a number become numbers; those of identifiers stay text.

    Raises
    ------
    ValueError
        The file is no text or no table; names it.
    """
    text = _text(path)
    if re.match(r"sep=.\r?\n", text):  # Excel's own first line, which names the delimiter
        text = text.partition("\n")[2]
    first = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    delimiter = max(DELIMITERS, key=first.count)
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, sep=delimiter)
    except ValueError as error:  # among them pandas' errors of parsing, which do not name the file
        raise ValueError(f"{path.name}: not a table ({' '.join(str(error).split())})") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells for names of rows
        raise ValueError(f"{path.name}: not a table (a row has more cells than the first line has columns)")
    try:
        headings = pd.Series(next(csv.reader(io.StringIO(text, newline=None), delimiter=delimiter), []), dtype=str)
    except csv.Error as error:
        raise ValueError(f"{path.name}: not a table ({error})") from error
    headings = headings.str.strip()
    if (double := headings[headings.duplicated() & (headings != "")]).size:
        raise ValueError(f"{path.name}: column {double.iloc[0]!r} stands twice, wanted each once")
    table.columns = table.columns.str.strip()
    table = table.apply(lambda column: column.str.strip())
    table = table.mask(table == "").dropna(how="all").reset_index(drop=True)
    values = [name for name in table if not str(name).endswith("_id")]
    if delimiter != ",":
        table[values] = _with_points(table[values])
    return table.assign(**{name: _numbers(table[name]) for name in values}) if numbers else table


def _text(path: Path) -> str:
    raw = path.read_bytes()
    utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Excel's "Unicode text"
    try:
        return raw.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path.name}: not a table (line {line} holds bytes that are no {error.encoding}; wanted UTF-8, which "
            "Excel saves as 'CSV UTF-8')"
        ) from error


def _with_points(values: pd.DataFrame) -> pd.DataFrame:
    """Decimal commas as points; where the table has both, one may part thousands: all stay as they are."""
    comma = values.apply(lambda column: column.str.fullmatch(WITH_COMMA, na=False))
    point = values.apply(lambda column: column.str.fullmatch(WITH_POINT, na=False))
    if point.any(axis=None):
        return values
    return values.mask(comma, values.apply(lambda column: column.str.replace(",", ".")))


def _numbers(column: pd.Series) -> pd.Series:
    found = pd.to_numeric(column, errors="coerce")
    return found if found.notna().equals(column.notna()) else column


def case_table(path: Path, wanted: tuple[str, ...]) -> pd.DataFrame:
    """A table with one row per case; types and splits in lower case, notes under `attrs`.

    Parameters
    ----------
    wanted : columns that must be there; scan_id is another name of case_id.

    Raises
    ------
    ValueError
        A wanted column is missing, a case has no or no usable id or stands twice, or a type or split is unknown.
    """
    rows = read_given(path)
    if "case_id" not in rows:
        rows = rows.rename(columns={"scan_id": "case_id"})
    for column in wanted:
        if column not in rows:
            raise ValueError(f"{path.name}: no column {column!r}; found {', '.join(rows.columns)}")
    if rows["case_id"].isna().any():
        raise ValueError(f"{path.name}: row {int(rows['case_id'].isna().argmax()) + 2} of the table has no case_id")
    check_ids(rows["case_id"], path.name)
    doubled = rows.loc[rows["case_id"].duplicated(), "case_id"]
    if len(doubled):
        raise ValueError(f"{path.name}: case {doubled.iloc[0]} is listed more than once")
    for column, allowed in (("hemorrhage_type", HEMORRHAGE_TYPES), ("split", SPLITS)):
        if column in rows:
            given, rows[column] = rows[column], rows[column].str.lower()
            wrong = rows[column].notna() & ~rows[column].isin(allowed)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"{path.name}: case {rows['case_id'][row]}: {column} is {given[row]!r}, "
                    f"wanted one of {', '.join(allowed)}"
                )
    return own_patients(rows) if "patient_id" in rows else rows.assign(patient_id=rows["case_id"])


def own_patients(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with patient ids without blanks around them; a case that names none is its own patient, with a note."""
    named = rows["patient_id"].astype(object).where(rows["patient_id"].notna(), "").astype(str).str.strip()
    rows = rows.assign(patient_id=named.where(named != "", rows["case_id"]))
    if (named == "").any():
        rows.attrs["notes"] = [*rows.attrs.get("notes", ()), f"{int((named == '').sum())} {OWN_PATIENT}"]
    return rows
