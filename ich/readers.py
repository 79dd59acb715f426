"""ABC/2 of human readers in the study: as methods beside the others, and among themselves.

Readers at the screen of 06 weigh slices 0, 1/2 or 1, as Kothari et al. 1996 do, so their C is Kothari's and not that of
the primary rule; readings made elsewhere may state that all slices count. Who saw the outlines, or counted by the other
rule, counts as a different reader.
"""

from collections.abc import Iterator
from itertools import combinations

import pandas as pd

from ich.agreement import bland_altman, intraclass, repeatability
from ich.linked import coefficient_intervals, owners
from ich.pairs import FEWEST, pair

UNBLINDED, ALL_SLICES = ", not blinded", ", all slices"
COLUMNS = ["kind", "first", "second", "n", "bias", "bias_ci_low", "bias_ci_high", "sd", "loa_lower", "loa_upper",
           "icc_a1", "icc_a1_ci_low", "icc_a1_ci_high", "repeatability_ml", "note"]  # fmt: skip


def column_of(reader: str) -> str:
    """Name of a reader's column of volumes."""
    return f"abc2_by_{reader.replace(UNBLINDED, '_unblinded').replace(ALL_SLICES, '_all_slices')}_ml"


def numbered(readings: pd.DataFrame) -> pd.DataFrame:
    """Readings that were not blinded, or count all slices, under a reader's name of their own, numbered by themselves.

    Where nobody says whether a reading was blinded, it was made without outlines.

    Raises
    ------
    ValueError : a reader's reading of a case stands twice.
    """
    rules = readings.get("rule", pd.Series(None, readings.index, dtype=object))
    names = readings["reader"].astype(str)
    names += (~readings["blinded"].fillna(True).astype(bool)).map({True: UNBLINDED, False: ""})
    names += (rules == "all slices").map({True: ALL_SLICES, False: ""})
    double = pd.DataFrame({"case": readings["case_id"], "name": names, "n": readings["reading"]}).duplicated()
    if double.any():
        row = readings[double].iloc[0]
        raise ValueError(
            f"case {row['case_id']}: reading {row['reading']} of reader {row['reader']} stands twice, wanted each once"
        )
    of_any, of_own = (
        readings.groupby([readings["case_id"], by])["reading"].rank("dense") for by in (readings["reader"], names)
    )
    return readings.assign(reader=names, reading=(readings["reading"] - of_any + of_own).astype(int))


def with_readings(cases: pd.DataFrame, readings: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """`cases` with each reader's first ABC/2 of a case in a column of its own, NaN where it was not read.

    Parameters
    ----------
    cases : column case_id. readings : readers.csv.

    Returns
    -------
    cases : in the same order.
    labels : column -> name of the method, of the readers that read any of these cases.
    """
    readings = numbered(readings)
    first = readings[(readings["reading"] == 1) & readings["case_id"].isin(cases["case_id"])]
    labels = {}
    for reader, part in first.groupby("reader"):
        rule = "" if str(reader).endswith(ALL_SLICES) else ", Kothari's C"
        labels[column_of(str(reader))] = f"ABC/2 by {reader}{rule}"
        cases = cases.assign(**{column_of(str(reader)): cases["case_id"].map(part.set_index("case_id")["abc2_ml"])})
    return cases, labels


def reader_agreement(cases: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """Readers against the reference, against ABC/2 computed by the same rule, against each other and themselves.

    First readings are compared; a reader's later readings of a case are compared with the first.

    Parameters
    ----------
    cases : case_id, reference_ml, abc2_kothari_ml and abc2_ml (by the rules that readers follow), and patient_id where
        patients have several. readings : readers.csv.

    Returns
    -------
    One row per pair: kind, first, second, n, bias (first - second, ml) and limits of agreement with intervals, ICC(A,1)
    with its interval, for repeats the repeatability coefficient (two readings differ by less in 95 %), and a note where
    there are too few cases. Then the rows of `among_readers`.

    Source: Bland & Altman 1986 and 1999; McGraw & Wong 1996; see `ich.bland_altman` and `ich.reliability`.
    """
    own = numbered(readings[readings["case_id"].isin(cases["case_id"])])
    if own.empty:
        return pd.DataFrame(columns=COLUMNS)
    wide = own.set_index(["case_id", "reader", "reading"])["abc2_ml"].unstack(["reader", "reading"])  # noqa: PD010
    known = cases.set_index("case_id").loc[wide.index]
    patients = known.get("patient_id")
    rows = [_row(*pair, patients) for pair in _against(wide, known)]
    among = among_readers(wide, patients).to_dict("records")
    if len({str(name).endswith(ALL_SLICES) for name in _names(wide)}) > 1:
        among = [row | {"note": "they count C by two rules"} if row["kind"] == "all readers" else row for row in among]
    return pd.DataFrame([*rows, *among], columns=COLUMNS)


def among_readers(wide: pd.DataFrame, patients: pd.Series | None = None) -> pd.DataFrame:
    """Readers against each other and themselves.

    Parameters
    ----------
    wide : a row per case, columns by reader and reading (from 1), ml; NaN where there is none.
    patients : the patient of each row; None where each is a patient.

    Returns
    -------
    One row per pair as `reader_agreement` has them. A reader of three readings or more has a row with the repeatability
    coefficient of all of them and the ICC of the cases that have all; three readers or more have one with their ICC.
    """
    rows = [_row(*pair, patients) for pair in _pairs(wide)]
    for name in _names(wide):
        own = wide[name].dropna(thresh=2)
        if wide[name].shape[1] > 2 and len(own):
            row = {"kind": "same reader", "first": f"{name}, {wide[name].shape[1]} readings", "second": "each other"}
            rows.append(row | {"n": len(own), "repeatability_ml": _repeatability(own)} | _icc(own.dropna()))
    complete = wide.loc[:, [(name, 1) for name in _names(wide)]].dropna()
    if complete.shape[1] > 2 and len(complete) >= FEWEST:
        row = {"kind": "all readers", "first": f"{complete.shape[1]} readers", "second": "each other"}
        rows.append(row | {"n": len(complete)} | _icc(complete))
    return pd.DataFrame(rows, columns=COLUMNS)


def _names(wide: pd.DataFrame) -> list:
    return list(wide.columns[wide.columns.get_level_values(1) == 1].get_level_values(0))


def _against(wide: pd.DataFrame, known: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.Series, pd.Series]]:
    names = _names(wide)
    for name in names:
        yield "against the reference", str(name), "reference", wide[name, 1], known["reference_ml"]
    for name in names:
        every = str(name).endswith(ALL_SLICES)
        column, rule = ("abc2_ml", "all slices") if every else ("abc2_kothari_ml", "Kothari's C")
        yield "against the computed", str(name), f"ABC/2, {rule}", wide[name, 1], known[column]


def _pairs(wide: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.Series, pd.Series]]:
    names = _names(wide)
    for one, other in combinations(names, 2):
        yield "between readers", str(one), str(other), wide[one, 1], wide[other, 1]
    for name in names:
        for later in sorted(number for number in wide[name] if number > 1):
            said = f"{name}, second reading" if later == 2 else f"{name}, reading {later}"
            yield "same reader", said, f"{name}, first reading", wide[name, later], wide[name, 1]


def _row(kind: str, first: str, second: str, a: pd.Series, b: pd.Series, patients: pd.Series | None) -> dict:
    both = pd.DataFrame({"a": a, "b": b}).dropna()
    row = {"kind": kind, "first": first, "second": second, "n": len(both)}
    if len(both) < FEWEST:
        return row | {"note": f"{len(both)} shared cases, wanted at least {FEWEST}"}
    whose = None if patients is None else patients.loc[both.index]
    found = bland_altman(both["a"], both["b"], patients=whose)
    row |= {"bias": found.bias, "bias_ci_low": found.bias_ci[0], "bias_ci_high": found.bias_ci[1], "sd": found.sd,
            "loa_lower": found.loa_lower, "loa_upper": found.loa_upper, **_icc(both)}  # fmt: skip
    if whose is not None:
        owner = owners(whose, len(both))
        low, high = coefficient_intervals(pair(both["a"], both["b"]), owner, 0.95)["icc_a1_ci"]
        row |= {"icc_a1_ci_low": low, "icc_a1_ci_high": high}
    if kind == "same reader":
        row["repeatability_ml"] = _repeatability(both)
    return row


def _repeatability(own: pd.DataFrame) -> float:
    """Of the readings (cases, readings) of one reader, NaN where a case lacks one."""
    long = pd.DataFrame({"case": own.index.repeat(own.shape[1]), "ml": own.to_numpy().ravel()})
    return repeatability(long, subject="case", value="ml")["coefficient"]


def _icc(table: pd.DataFrame) -> dict[str, float]:
    if len(table) < FEWEST:
        return {}
    rows = intraclass(table.to_numpy())
    found = rows[rows["type"] == "ICC(A,1)"].to_dict("records")[0]
    return {"icc_a1": found["icc"], "icc_a1_ci_low": found["ci_low"], "icc_a1_ci_high": found["ci_high"]}
