"""Two columns of volumes as complete pairs: what every agreement statistic starts from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

FEWEST = 3  # pairs that limits of agreement can be had from


class NotDefined(ValueError):
    """A statistic that sound data do not define, such as a slope between equal volumes."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Values of two methods on the same cases; cases that lack either value are named, not used."""

    method: np.ndarray  # (n,)
    reference: np.ndarray  # (n,)
    ids: np.ndarray  # (n,) text
    missing_ids: tuple[str, ...]
    kept: np.ndarray  # (rows,) which rows of the input the pairs come from

    @property
    def n(self) -> int:
        """Number of complete pairs."""
        return self.method.size

    @property
    def difference(self) -> np.ndarray:
        """Method minus reference, (n,)."""
        return self.method - self.reference

    @property
    def differ(self) -> bool:
        """Whether the differences vary beyond the rounding of the values they come from."""
        return varies(self.difference, self.method, self.reference)

    @property
    def mean(self) -> np.ndarray:
        """Mean of both, (n,)."""
        return (self.method + self.reference) / 2

    def of(self, patients: ArrayLike | None) -> np.ndarray | None:
        """(n,) the patient of each pair, of those (rows,) of the input; None where none are given."""
        return None if patients is None else np.asarray(patients, dtype=object)[self.kept]


def varies(values: np.ndarray, *scale: np.ndarray) -> bool:
    """Whether values differ by more than the rounding of numbers of their own size or that of `scale`."""
    if values.size == 0:
        return False
    largest = max(float(np.abs(part).max()) for part in (values, *scale))
    return float(np.ptp(values)) > 1e-12 * largest


def numbers(values: ArrayLike, name: str, ids: Sequence[str] | None = None) -> np.ndarray:
    """Values as float64, (n,), missing ones as NaN.

    Raises
    ------
    ValueError : text, an infinite value or a second axis; the message names the column and the case, of text the
        first that is no number.
    """
    column = pd.Series(values)
    named = list(ids) if ids is not None else [f"row {index}" for index in column.index]
    text = [isinstance(value, str) for value in column] if column.dtype.kind not in "fiu" else [False]
    if any(text):
        unread = pd.to_numeric(column, errors="coerce").isna().to_numpy() & text
        first = int(unread.argmax()) if unread.any() else text.index(True)  # one bad cell makes a column text
        raise ValueError(f"{name}: case {named[first]} is the text {column.iloc[first]!r}, wanted numbers")
    if column.dtype.kind in "bmM":
        raise ValueError(f"{name}: holds {column.dtype}, wanted numbers")
    found = pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(found).any():
        raise ValueError(f"{name}: case {named[int(np.isinf(found).argmax())]} is infinite, wanted a finite number")
    return found


def unique_ids(ids: ArrayLike, where: str) -> list[str]:
    """Identifiers as text.

    Raises
    ------
    ValueError : an identifier stands twice; the message names it. Or a row has none.
    """
    column = pd.Series(ids)
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax()) + 1
        raise ValueError(f"{where}: row {row} of {column.size} names no case, wanted one in every row")
    column = column.astype(str)
    if column.duplicated().any():
        twice = column[column.duplicated()].iloc[0]
        raise ValueError(f"{where}: case {twice} stands {int((column == twice).sum())} times, wanted one row per case")
    return column.tolist()


def pair(
    method: ArrayLike,
    reference: ArrayLike,
    ids: ArrayLike | None = None,
    *,
    names: tuple[str, str] = ("method", "reference"),
    minimum: int = FEWEST,
) -> Pairs:
    """Complete pairs of two columns, in their order.

    Parameters
    ----------
    method, reference : (n,) numbers; NaN or None is a missing value.
    ids : (n,) identifiers; without them the index of a Series, else the position.
    names : how an error calls the two columns.
    minimum : complete pairs that the statistic needs.

    Raises
    ------
    ValueError : text, infinite values, lengths or indexes that differ, an identifier that stands twice,
        or fewer than `minimum` complete pairs.
    """
    if isinstance(method, pd.Series) and isinstance(reference, pd.Series) and not method.index.equals(reference.index):
        raise ValueError(f"{names[0]} and {names[1]}: their indexes differ, wanted rows of one table")
    n_rows = (np.size(method), np.size(reference))
    if n_rows[0] != n_rows[1]:
        raise ValueError(f"{names[0]} has {n_rows[0]} values and {names[1]} has {n_rows[1]}, wanted the same cases")
    index = method.index if isinstance(method, pd.Series) else range(n_rows[0])
    case_ids = [str(label) for label in index] if ids is None else unique_ids(ids, f"{names[0]} and {names[1]}")
    if len(case_ids) != n_rows[0]:
        raise ValueError(f"ids: got {len(case_ids)} for {n_rows[0]} pairs")
    first, second = numbers(method, names[0], case_ids), numbers(reference, names[1], case_ids)
    complete = ~(np.isnan(first) | np.isnan(second))
    labels = np.array(case_ids, dtype=object)
    missing = tuple(labels[~complete])
    if complete.sum() < minimum:
        more = ", ..." if len(missing) > 10 else ""
        lost = f" (missing: {', '.join(missing[:10])}{more})" if missing else ""
        raise ValueError(f"{names[0]} and {names[1]}: {complete.sum()} complete pairs{lost}, wanted at least {minimum}")
    return Pairs(first[complete], second[complete], labels[complete], missing, complete)


def require_columns(table: pd.DataFrame, *names: str | None, purpose: str = "") -> None:
    """Raise ValueError for columns that a table lacks; None stands for a column that is not asked for."""
    missing = [name for name in names if name is not None and name not in table]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}{purpose}; found {', '.join(map(str, table.columns))}")


def flat(record: dict) -> dict:
    """A record with each interval `x_ci` as two entries `x_ci_low` and `x_ci_high`, for a table's row."""
    row = {}
    for name, value in record.items():
        if name.endswith(("_ci", "_ci_approximate")):
            row[f"{name}_low"], row[f"{name}_high"] = value
        elif isinstance(value, tuple):
            row[name] = " ".join(str(part) for part in value)
        else:
            row[name] = value
    return row


def or_note(notes: list[str], statistic, *columns, **options):
    """A statistic, or None and the reason in `notes` where these data do not define it."""
    try:
        return statistic(*columns, **options)
    except NotDefined as error:
        notes.append(str(error))
        return None


def only(record, *names: str) -> dict:
    """Some attributes of a record by name."""
    return {name: getattr(record, name) for name in names}
