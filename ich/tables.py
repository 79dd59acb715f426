"""Schema of every table of a run folder; `read` and `write` check it.

Units are part of a column's name. Further columns are allowed: a study may carry its own. Identifiers are text,
so that case `001` stays `001`.
"""

import math
import re
from html import escape
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
from pandas.io.formats.style import Styler

from ich.atomic import replacing

HEMORRHAGE_TYPES = ("parenchymal", "ventricular", "subarachnoid", "mixed")
LABELS = {"parenchymal": 1, "ventricular": 2, "subarachnoid": 3}
LABEL_NAMES = {number: name for name, number in LABELS.items()}
MAX_ID_BYTES = 200  # of a case id in UTF-8: it becomes part of a file's name
# A spreadsheet takes a cell that starts like this for a formula; a number with a sign is none.
FORMULA = re.compile(r"[=@\t\n]|[+-](?![\d\s.,:;%()\[\]+–-]*$)")
ABBREVIATED = re.compile(r"\b(?:assd|ccc|hd95|hd|hu|icc|iou|nsd|sd)\b")
WORDS = "text-align: left; white-space: normal; max-width: 30rem"
SPLITS = ("train", "validation", "test")
READER_RULES = ("Kothari", "all slices")  # how a reader counted C; not stated: Kothari


def _text(nullable: bool = False, **options) -> pa.Column:
    return pa.Column(str, nullable=nullable, coerce=True, **options)


def _number(low: float | None = 0, high: float | None = None, nullable: bool = False) -> pa.Column:
    checks = []
    if low is not None:
        checks.append(pa.Check.ge(low))
    if high is not None:
        checks.append(pa.Check.le(high))
    return pa.Column(float, checks=checks, nullable=nullable, coerce=True)


def _count(nullable: bool = False) -> pa.Column:
    return pa.Column("Int64" if nullable else int, pa.Check.ge(0), nullable=nullable, coerce=True)


def for_abc2(cases: pd.DataFrame, mixed: bool = False) -> pd.DataFrame:
    """The cases whose volumes are compared: parenchymal, which ABC/2 was made for, or of no stated type.

    Parameters
    ----------
    mixed : mixed cases too, of which the parenchymal part alone was measured.
    """
    types = ("parenchymal", "mixed") if mixed else ("parenchymal",)
    return cases[cases["hemorrhage_type"].isna() | cases["hemorrhage_type"].isin(types)]


def strange_id(name: object) -> str | None:
    """What keeps a text from being a case id, which names files too; None if nothing does."""
    if not isinstance(name, str) or not name.strip():
        return "is empty"
    if (size := len(name.encode("utf-8", "replace"))) > MAX_ID_BYTES:
        return f"has {size} bytes, wanted at most {MAX_ID_BYTES}"
    if name in (".", "..") or any(sign in "/\\" or not sign.isprintable() for sign in name):
        return "holds a separator of folders or a character that cannot be printed"
    return None


def check_ids(names: pd.Series, where: str) -> None:
    """ValueError for the first case id that cannot be one."""
    for name in names:
        if problem := strange_id(name):
            raise ValueError(f"{where}: case {str(name)[:60]!r} {problem}")


def _case(**options) -> pa.Column:
    return _text(checks=pa.Check.str_length(min_value=1), **options)


SCHEMAS = {
    # One row per case found, included or not; what could not be measured is empty.
    "cohort": pa.DataFrameSchema(
        {
            "case_id": _case(unique=True),
            "patient_id": _case(),
            "image": _text(nullable=True),  # path from the run folder
            "reference_mask": _text(nullable=True),
            "second_mask": _text(nullable=True),  # a second reader's outline
            "source": _text(),
            "simulated": pa.Column(bool, coerce=True),
            "scan_date": _text(nullable=True),
            "hemorrhage_type": pa.Column(str, pa.Check.isin(HEMORRHAGE_TYPES), nullable=True),
            "reference_volume_ml": _number(nullable=True),
            "reference_parenchymal_ml": _number(nullable=True),
            "reference_ventricular_ml": _number(nullable=True),
            "reference_subarachnoid_ml": _number(nullable=True),
            "true_volume_ml": _number(nullable=True),  # known for simulated cases only
            "n_slices": _count(nullable=True),
            "spacing_i_mm": _number(nullable=True),
            "spacing_j_mm": _number(nullable=True),
            "slice_spacing_mm": _number(nullable=True),
            "slice_spacing_uniform": pa.Column("boolean", nullable=True, coerce=True),
            "tilt_deg": _number(low=-90, high=90, nullable=True),
            "hu_min": _number(low=None, nullable=True),
            "hu_max": _number(low=None, nullable=True),
            "content": _text(nullable=True),  # SHA-256 of the pixels, of the mask where there is no image
            "site": _text(nullable=True),
            "extra_axial_ml": _number(nullable=True),  # subdural and epidural blood, in no mask
            "quality_flags": _text(nullable=True),  # what `ich.quality` says
            "quality_slices": _text(nullable=True),  # JSON: the slice that shows each flag best
            "included": pa.Column(bool, coerce=True),
            "reason": _text(nullable=True),
        }
    ),
    "splits": pa.DataFrameSchema(
        {
            "case_id": _case(unique=True),
            "patient_id": _case(),
            "split": pa.Column(str, pa.Check.isin(SPLITS), coerce=True),
        }
    ),
    "exclusions": pa.DataFrameSchema({"case_id": _case(), "stage": _text(), "reason": _case()}),
    "training": pa.DataFrameSchema(
        {
            "step": _count(),
            "loss": _number(low=None),
            "validation_dice": _number(high=1, nullable=True),
            "learning_rate": _number(),
        }
    ),
    # One row per test case: every volume that 04 compares.
    "measurements": pa.DataFrameSchema(
        {
            "case_id": _case(unique=True),
            "patient_id": _case(),
            "hemorrhage_type": pa.Column(str, pa.Check.isin(HEMORRHAGE_TYPES), nullable=True),
            "reference_ml": _number(),
            "network_ml": _number(nullable=True),
            "second_reader_ml": _number(nullable=True),
            "true_ml": _number(nullable=True),
            "abc2_ml": _number(nullable=True),
            "abc2_kothari_ml": _number(nullable=True),
            "abc3_ml": _number(nullable=True),
            "two_thirds_sh_ml": _number(nullable=True),
            "a_mm": _number(nullable=True),
            "b_mm": _number(nullable=True),
            "c_mm": _number(nullable=True),
            "solidity": _number(high=1.000001, nullable=True),  # volume over that of each slice's convex hull
        }
    ),
    # One row per (case, label, reader): overlap with the reference.
    "metrics": pa.DataFrameSchema(
        {
            "case_id": _case(),
            "patient_id": _case(),
            "hemorrhage_type": pa.Column(str, pa.Check.isin(HEMORRHAGE_TYPES), nullable=True),
            "reader": _text(),
            "label": pa.Column(str, pa.Check.isin(("blood", *LABELS)), coerce=True),
            "dice": _number(high=1),
        }
    ),
    # One row per reading: ABC/2 as a reader measured it, at the screen of 06 or, without what it draws, elsewhere;
    # points are (i, j) in voxels of the index slice.
    "readers": pa.DataFrameSchema(
        {
            "case_id": _case(),
            "reader": _case(),
            "reading": pa.Column(int, pa.Check.ge(1), coerce=True),  # 1 for a reader's first reading of the case
            "time": _text(nullable=True),
            "blinded": pa.Column("boolean", nullable=True, coerce=True),
            "index_slice": _count(nullable=True),
            "a_mm": _number(),
            "b_mm": _number(),
            "c_mm": _number(),
            "abc2_ml": _number(),
            "angle_deg": _number(high=90.001, nullable=True),  # between A and B
            "weights": _text(nullable=True),  # "slice:weight" of every slice that counts, slices from 0
            **{f"{end}_{axis}": _number(low=None, nullable=True) for end in ("a1", "a2", "b1", "b2") for axis in "ij"},
            "rule": pa.Column(str, pa.Check.isin(READER_RULES), nullable=True),
        }
    ),
    "agreement": pa.DataFrameSchema(
        {
            "method": _case(),
            "reference": _case(),
            "stratum": _case(),
            "n": _count(),
            "bias": _number(low=None, nullable=True),
            "sd": _number(nullable=True),
            "loa_lower": _number(low=None, nullable=True),
            "loa_upper": _number(low=None, nullable=True),
        }
    ),
}


def _text_columns(schema: pa.DataFrameSchema) -> list[str]:
    return [name for name, column in schema.columns.items() if str(column.dtype).startswith("str")]


def _schema(path: Path, table: str | None) -> tuple[str, pa.DataFrameSchema]:
    name = table or path.stem
    if name not in SCHEMAS:
        raise ValueError(f"{path.name}: no table is called {name!r}; tables are {', '.join(SCHEMAS)}")
    return name, SCHEMAS[name]


def check(frame: pd.DataFrame, table: str, where: str = "table") -> pd.DataFrame:
    """Return `frame` with the dtypes of `table`; optional columns that are missing are added empty.

    Raises
    ------
    ValueError
        Names the table, the column, the first case in question and what was wanted.
    """
    schema = SCHEMAS[table]
    frame = frame.copy()
    for name, column in schema.columns.items():
        if name in frame:
            continue
        if not column.nullable:
            raise ValueError(f"{where}: {table} has no column {name!r}; found {', '.join(frame.columns)}")
        frame[name] = None
    for name in _text_columns(schema):
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None).astype("str")
    if "case_id" in schema.columns:
        check_ids(frame["case_id"].dropna(), f"{where}: {table}")
    try:
        checked = schema.validate(frame)
    except pa.errors.SchemaError as error:
        raise ValueError(f"{where}: {table}: {_explain(error, frame)}") from error
    except pa.errors.SchemaErrors as error:  # of another type, which pandera reports in another form
        raise ValueError(f"{where}: {table}: {_explain(error.schema_errors[0], frame)}") from error
    return checked[[*schema.columns, *(c for c in frame.columns if c not in schema.columns)]]


def _explain(error: pa.errors.SchemaError, frame: pd.DataFrame) -> str:
    cases = error.failure_cases
    if isinstance(cases, pd.DataFrame) and len(cases) and cases["index"].notna().any():
        row = cases.iloc[0]
        named = frame.loc[row["index"], "case_id"] if "case_id" in frame else f"row {row['index']}"
        return f"case {named}: {error.schema.name} is {row['failure_case']!r}, wanted {error.check}"
    return str(error).splitlines()[0]


def read(path: str | Path, table: str | None = None) -> pd.DataFrame:
    """One table from CSV, checked; `table` defaults to the file's stem."""
    path = Path(path)
    name, schema = _schema(path, table)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is not in {path.parent}: the notebook that writes it has not run")
    text = dict.fromkeys(_text_columns(schema), "str")
    try:
        frame = pd.read_csv(path, dtype=text)
    except ValueError as error:  # among them pandas' errors of parsing, which do not name the file
        raise ValueError(f"{path.name}: not a table ({' '.join(str(error).split())})") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus cells for names of rows
        raise ValueError(f"{path.name}: not a table (a row has more cells than the first line has columns)")
    return check(frame, name, path.name)


def write(frame: pd.DataFrame, path: str | Path, table: str | None = None) -> pd.DataFrame:
    """Check `frame`, write it as CSV in one step (a reader never sees half a table) and return it."""
    path = Path(path)
    name, _ = _schema(path, table)
    checked = check(frame, name, path.name)
    write_plain(checked, path)
    return checked


def write_plain(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table without a schema (a report's display table) in one step, eight significant digits."""
    with replacing(path) as part:
        frame.map(_no_formula).rename(columns=_no_formula).to_csv(part, index=False, float_format="%.8g")


def forget(run: Path, *names: str) -> None:
    """Remove tables that a notebook writes only at times, so that none is left of an earlier run of it."""
    for name in names:
        (run / "tables" / f"{name}.csv").unlink(missing_ok=True)


def _no_formula(cell: object) -> object:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front; all else is as it was."""
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r\n", "\n").replace("\r", "\n")  # a lone one would end the row, unquoted
    return f"'{text}" if FORMULA.match(text) else text


def heading(column: str) -> str:
    """A column's name as a heading: error_sd_ml -> error SD, ml."""
    name, _, unit = column.rpartition("_")
    said = f"{name.replace('_', ' ')}, {unit}" if unit in ("ml", "mm") and name else column.replace("_", " ")
    said = ABBREVIATED.sub(lambda found: found[0].upper(), said)
    return re.sub(r"\bdice\b", "Dice", said)  # a name


def show(frame: pd.DataFrame, name: str, digits: int = 2) -> Styler:
    """A table as a notebook shows it: rounded, p values to three digits, no index, the same HTML every time.

    A value and the ends of its interval (`<name>_ci_low`, `<name>_ci_high`) share a cell; headings are words.
    """

    def p_value(value) -> str:
        return "<0.001" if value < 0.001 else f"{value:.3f}"

    joined, told = _with_intervals(frame, digits)
    joined = joined.replace({math.inf: "∞", -math.inf: "−∞"})
    shown = joined.style.hide().format(precision=digits, na_rep="–", escape="html").set_uuid(name)
    headings = [heading(str(column)) + (" (95 % interval)" if column in told else "") for column in joined.columns]
    shown = shown.relabel_index([escape(text) for text in headings], axis=1)
    tested = [column for column in joined.columns if "p" in str(column).split("_")]
    if tested:
        shown = shown.format(dict.fromkeys(tested, p_value), subset=pd.Index(tested), na_rep="–", escape="html")
    worded = [column for column in joined.columns if joined[column].map(lambda cell: isinstance(cell, str)).any()
              and column not in told and pd.to_numeric(joined[column], errors="coerce").isna().all()]  # fmt: skip
    return shown.set_table_styles({column: [{"selector": "", "props": WORDS}] for column in worded}, overwrite=False)


def _with_intervals(frame: pd.DataFrame, digits: int) -> tuple[pd.DataFrame, list[str]]:
    """The table with intervals beside their values as texts, and the columns that have one."""
    joined, told = frame.copy(), list[str]()
    for low in [column for column in frame.columns if str(column).endswith("_ci_low")]:
        stem, high = low.removesuffix("_ci_low"), low.replace("_ci_low", "_ci_high")
        value = next((name for name in (stem, f"{stem}_ml") if name in frame), None)
        if value is None or high not in frame:
            continue
        joined[value] = [
            "–"
            if pd.isna(middle)
            else f"{middle:.{digits}f}"
            + (f" ({a:.{digits}f} to {b:.{digits}f})" if pd.notna(a) and pd.notna(b) else "")
            for middle, a, b in zip(frame[value], frame[low], frame[high], strict=True)
        ]
        joined, told = joined.drop(columns=[low, high]), [*told, value]
    return joined, told
