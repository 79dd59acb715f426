"""The tables of a study as a paper prints them: Table 1, Dice by type, volume error by group, agreement.

Every number is read from a CSV table of the run and rounded; nothing is computed here.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ich.assumptions import UNCHECKED
from ich.published import REFERENCES
from ich.resampling import FEW
from ich.volume_limits import QUOTED_AT_ML
from ich.wording import DASH, enough_digits, number

PAPER = "Wang et al. 2019"
METHODS = {
    "network_ml": "network",
    "abc2_ml": "ABC/2",
    "abc2_kothari_ml": "ABC/2, Kothari's C",
    "second_reader_ml": "second reader",
}
FOLLOWING = ("ratio", "regression", "nonparametric")  # limits other than bias ± 1.96 SD
CCC_COVERS, ALONG_COVERS = "77 to 91 %", "83 to 97 %"  # of nominal 95 %, reports/checks/few_patients.csv
INTERVALS = f"BCa bootstrap over patients, below {FEW} patients by t"


@dataclass(frozen=True)
class PrintTable:
    """One table, ready to print: texts alone, with what n and the intervals are said below it."""

    name: str  # file name without ending
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: str
    worded: int = 1  # columns of words at the left; the others hold numbers
    groups: tuple[int, ...] = ()  # rows that begin a group


def interval(row: Mapping, value: str, low: str, high: str, digits: int) -> str:
    """`value (low to high)`; the value alone where the row has no interval. See `enough_digits`."""
    if not row.get(low) or not row.get(high):
        return number(row[value], digits)
    digits = enough_digits((row[low], row[high]), digits)
    return f"{number(row[value], digits)} ({number(row[low], digits)} to {number(row[high], digits)})"


def spread(row: dict[str, str], mean: str, sd: str, digits: int) -> str:
    """`mean ± SD`; the mean alone where there is no SD."""
    shown = number(row[mean], digits)
    return f"{shown} ± {number(row[sd], digits)}" if row.get(sd) else shown


def read_rows(run: Path, name: str) -> list[dict[str, str]]:
    """Rows of one of the run's tables as texts; none where the run has no such table."""
    path = run / "tables" / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def measured_rows(run: Path) -> list[dict[str, str]]:
    """Rows of the volumes that 04 compared: of the label parenchymal alone where it measured that."""
    return read_rows(run, "measurements_parenchymal") or read_rows(run, "measurements")


def of_a_table(run: Path) -> bool:
    """Whether the run compares a table of volumes (07), all of it, instead of masks."""
    return (run / "tables" / "volumes.csv").is_file()


def method_name(column: str, own: str = "network") -> str:
    """A volume column as a reader's word; `own` is what this run calls the masks it tests."""
    name = METHODS.get(column, column.removesuffix("_ml").replace("_", " "))
    return own if name == "network" else name


def table_one(run: Path, simulated: bool = False) -> PrintTable | None:
    """Table 1: cases and patients, then median [quartiles] or n (%), by split; by type where splits were not used."""
    # A study of masks alone has splits and does not use them.
    unused = bool(measured_rows(run)) and not read_rows(run, "metrics")
    by = "hemorrhage_type" if unused else "split"
    described = read_rows(run, f"table1_by_{by}")
    if not described:
        return None
    splits = [name for name in described[0] if name not in ("characteristic", "level", "missing", "all")]
    shown = ["all"] if len(splits) == 1 else ["all", *splits]
    with_missing = any(row["missing"] not in ("", "0", "nan") for row in described)
    rows: list[tuple[str, ...]] = []

    def add(label: str, cells: dict[str, str], missing: str = "") -> None:
        numbers = [_plain(cells[name]) for name in shown]
        rows.append((label, *numbers, *([_plain(missing) or DASH] if with_missing else [])))

    before = ""
    for row in described:
        name, level = row["characteristic"], _plain(row["level"])
        if name == "n":
            add("Cases, n", row)
        elif not level:
            add(name.replace("[Q1,Q3]", "[quartiles]"), row, row["missing"])
        else:
            if name != before:
                rows.append((name, *[""] * (len(shown) + with_missing)))
            add(f"\N{EM SPACE}{level}", row, row["missing"] if name != before else "")
        before = name
    lacking = " Missing: cases without the value." if with_missing else ""
    return PrintTable(
        "table1",
        "Cohort" + _of(simulated),
        ("", *(_heading(name) for name in shown), *(["Missing"] if with_missing else [])),
        tuple(rows),
        "Included cases; a patient may have several. Median [first, third quartile] or n (%): quartiles describe the "
        f"cases and are no confidence intervals.{lacking}",
    )


def dice_rows(run: Path) -> list[dict[str, str]]:
    """Rows of dice_by_type.csv for the network, in the order of the paper."""
    order = ("parenchymal", "ventricular", "subarachnoid", "mixed")
    rows = [row for row in read_rows(run, "dice_by_type") if row["reader"] == "network"]
    return sorted(
        rows, key=lambda row: order.index(row["hemorrhage_type"]) if row["hemorrhage_type"] in order else len(order)
    )


def dice_by_type(run: Path, simulated: bool = False, own: str = "network") -> PrintTable | None:
    """Mean Dice with its interval by hemorrhage type, beside the second reader's and the published mean."""
    tested = dice_rows(run)
    if not tested:
        return None
    second = {row["hemorrhage_type"]: row for row in read_rows(run, "dice_by_type") if row["reader"] == "second_reader"}
    cells = []
    for row in tested:
        other = second.get(row["hemorrhage_type"])
        cells.append(
            (
                row["hemorrhage_type"],
                f"{row['n']} ({row['n_patients']})",
                interval(row, "mean", "mean_ci_low", "mean_ci_high", 2),
                *([interval(other, "mean", "mean_ci_low", "mean_ci_high", 2) if other else DASH] if second else []),
                number(row["published_dice"], 2),
            )
        )
    missing = {own: sum(int(row["n_missing"]) for row in tested)}
    return PrintTable(
        "dice_by_type",
        "Dice by hemorrhage type, test split" + _of(simulated),
        ("Type", "n (patients)", own.capitalize(), *(["Second reader"] if second else []), PAPER),
        tuple(cells),
        f"Mean Dice of blood as a whole (95 % interval, {INTERVALS}, none beyond 0 or 1); n cases (of so many "
        f"patients). {_missing(missing)}"
        f"{REFERENCES['Wang 2019']}: means of 162 other test cases, printed without intervals.",
    )


def error_by_group(run: Path, simulated: bool = False, own: str = "network") -> PrintTable | None:
    """Mean absolute volume error by group of the reference volume, beside the published one."""
    rows = read_rows(run, "error_by_group")
    if not rows:
        return None
    with_interval = any(row.get("mean_ci_low") for row in rows)
    beside = beside_paper(rows)
    cells: list[tuple[str, ...]] = []
    groups, before = [], ""
    for row in rows:
        if row["method"] != before:
            groups.append(len(cells))
        head = (own if row["method"] == "network" else row["method"]) if row["method"] != before else ""
        before = row["method"]
        low_high = (number(row["mean_ci_low"], 2), number(row["mean_ci_high"], 2)) if with_interval else ()
        cells.append(
            (
                head,
                row["group"].replace("-", DASH) + ("" if row["group"] == "all" else " ml"),
                row["n"],
                spread(row, "mean_ml", "sd_ml", 2),
                *([" to ".join(low_high) if row["mean_ci_low"] else DASH] if with_interval else []),
                *([spread(row, "published_mean_ml", "published_sd_ml", 2)] if beside else []),
            )
        )
    missing = {own if row["method"] == "network" else row["method"]: int(row["n_missing"]) for row in rows}
    cut = any(row.get("mean_ci_low") and float(row["mean_ci_low"]) == 0 for row in rows)
    said = f"95 % interval of the mean: {INTERVALS}{', cut at 0' if cut else ''}. " if with_interval else ""
    paper = REFERENCES["Wang 2019"]
    return PrintTable(
        "error_by_group",
        "Absolute volume error by reference volume" + _of(simulated),
        (
            "Method",
            "Reference",
            "n",
            "Mean ± SD, ml",
            *(["95 % interval, ml"] if with_interval else []),
            *([f"{PAPER}, ml"] if beside else []),
        ),
        tuple(cells),
        f"Absolute difference from the reference volume; n cases{_typed(run)}. {said}{_paired(run, own)}"
        f"{_missing(missing)}{f'{paper}: mean ± SD of 97 other parenchymal cases.' if beside else ''}".strip(),
        worded=2,
        groups=tuple(groups),
    )


def beside_paper(rows: list[dict[str, str]]) -> bool:
    """Whether a published mean stands beside any of these rows of error_by_group.csv."""
    return any(row.get("published_mean_ml") for row in rows)


def _typed(run: Path) -> str:
    """Which of a run's cases are compared."""
    if of_a_table(run):
        return ""
    alone = bool(read_rows(run, "measurements_parenchymal"))
    return " (their parenchymal blood alone)" if alone else " (parenchymal, or of no stated type)"


def agreement(run: Path, simulated: bool = False, own: str = "network") -> PrintTable | None:
    """Bias, limits of agreement, concordance and share within 5 ml, with intervals."""
    rows = [row for row in read_rows(run, "agreement") if row["stratum"] == "all"]
    if not rows:
        return None
    cells = [
        (
            method_name(row["method"], own),
            row["n"] if row.get("n_patients", row["n"]) == row["n"] else f"{row['n']} ({row['n_patients']})",
            interval(row, "bias", "bias_ci_low", "bias_ci_high", 1),
            number(row.get("median_difference", ""), 1),
            number(row["sd"], 1),
            interval(row, "loa_lower", "loa_lower_ci_low", "loa_lower_ci_high", 1),
            interval(row, "loa_upper", "loa_upper_ci_low", "loa_upper_ci_high", 1),
            interval(row, "ccc", "ccc_ci_low", "ccc_ci_high", 3),
            interval(row, "within_5_ml", "within_5_ml_ci_low", "within_5_ml_ci_high", 2),
        )
        for row in rows
    ]
    several = any(row.get("n_patients", row["n"]) != row["n"] for row in rows)
    concordance = (
        "of the concordance correlation (CCC) by jackknife over patients, which is still too narrow where a few large "
        f"hematomas dominate it ({CCC_COVERS} in simulations)"
    )
    how = (
        "n pairs (patients); limits are bias ± 1.96 SD, the SD from an analysis of variance, as patients have several "
        "pairs. In brackets 95 % intervals that allow for it: of the bias by t, of the limits by noncentral t, of the "
        f"share within 5 ml by Wilson, {concordance}"
        if several
        else "n pairs of cases; limits of agreement are bias ± 1.96 SD. In brackets 95 % intervals: of the bias by t, "
        "of the limits exact (noncentral t), of the share within 5 ml by Wilson, "
        f"{concordance}"
    )
    missing = {method_name(row["method"], own): int(row["n_missing"]) for row in rows}
    return PrintTable(
        "agreement",
        "Agreement with the reference volume" + _of(simulated),
        ("Method", "n", "Bias, ml", "Median, ml", "SD, ml", "Lower limit, ml", "Upper limit, ml", "CCC", "Within 5 ml"),
        tuple(cells),
        f"Difference = method − reference; {how}. {_checked(rows, own)} {_missing(missing)}".strip(),
    )  # fmt: skip


def _checked(rows: list[dict[str, str]], own: str) -> str:
    """What the checks of normality and of trends with the volume say of the limits."""
    if not any(row.get("limits_to_quote") for row in rows):
        return ""
    if all(row["limits_to_quote"] == UNCHECKED for row in rows):
        return "The pairs are too few to check which limits suit."
    said = quoted_said({method_name(row["method"], own): row for row in rows})
    return said or "The checks speak for these limits."


def quoted_limits(row: Mapping) -> str:
    """The limits of a row of agreement.csv that the checks speak for; "too few to check" where they cannot."""
    kind = row.get("limits_to_quote", "")
    if kind == UNCHECKED:
        return "too few to check"
    if kind == "ratio":
        at_30 = [30 * (float(row[f"ratio_loa_{end}"]) - 1) for end in ("lower", "upper")]
        in_ml = f" ({number(at_30[0])} to {number(at_30[1])} ml at 30 ml)"
        return f"{_limits(row, 'ratio_loa_lower', 'ratio_loa_upper', 2)} times the reference{in_ml}"
    if kind == "nonparametric":
        return f"{_range(row, 'percentile_loa_lower', 'percentile_loa_upper', 1)} ml (percentiles)"
    if kind == "regression":
        ends = {volume: (f"loa_lower_at_{volume}_ml", f"loa_upper_at_{volume}_ml") for volume in QUOTED_AT_ML}
        told = {volume: _limits(row, *names, 1) for volume, names in ends.items() if number(row[names[0]]) != DASH}
        return "; ".join(f"{shown} ml at {volume} ml" for volume, shown in told.items()) or "along a regression"
    return f"{_range(row, 'loa_lower', 'loa_upper', 1)} ml" if kind == "constant" else ""


def _limits(row: Mapping, low: str, high: str, digits: int) -> str:
    """Both limits, each with its interval."""
    return " to ".join(interval(row, limit, f"{limit}_ci_low", f"{limit}_ci_high", digits) for limit in (low, high))


def quoted_said(rows: Mapping[str, Mapping]) -> str:
    """The `quoted_limits` of rows of agreement.csv by name of the method; empty where constant limits suit them all."""
    if not any(row.get("limits_to_quote") in FOLLOWING for row in rows.values()):
        return ""
    each = [f"{name} {shown}" for name, row in rows.items() if (shown := quoted_limits(row))]
    follow = any(row.get("limits_to_quote") in ("ratio", "regression") for row in rows.values())
    why = "the same limits do not suit every volume" if follow else "differences are not normal"
    along = any(row.get("limits_to_quote") == "regression" for row in rows.values())
    rough = f" Intervals along a regression are approximate ({ALONG_COVERS} in simulations)." if along else ""
    return f"Limits to quote, as {why}: {'. '.join(each)}.{rough}"


def _range(row: Mapping, low: str, high: str, digits: int) -> str:
    return f"{number(row.get(low, ''), digits)} to {number(row.get(high, ''), digits)}"


def print_tables(run: Path, simulated: bool = False, own: str = "network") -> dict[str, PrintTable]:
    """Every one of the four tables that the run has, by name."""
    made = (
        table_one(run, simulated),
        dice_by_type(run, simulated, own),
        error_by_group(run, simulated, own),
        agreement(run, simulated, own),
    )
    return {table.name: table for table in made if table is not None}


def _paired(run: Path, own: str) -> str:
    row = next((row for row in read_rows(run, "paired_errors") if row["group"] == "all"), None)
    if row is None or not row["shift_ml"]:
        return ""
    first, second = method_name(row["first"], own), method_name(row["second"], own)
    return (
        f"Paired difference of the errors, {first} − {second}: "
        f"{interval(row, 'shift_ml', 'shift_ci_low', 'shift_ci_high', 1)} ml over {row['n_patients']} patients "
        f"(Hodges-Lehmann{', 95 % interval by signed ranks' if row['shift_ci_low'] else ''}). "
    )


def _plain(text: str) -> str:
    return "" if text == "nan" else text.replace(",", ", ").replace("  ", " ")


def _heading(name: str) -> str:
    return "All cases" if name == "all" else name.capitalize()


def _of(simulated: bool) -> str:
    return " (simulated data)" if simulated else ""


def _missing(counts: Mapping[str, int]) -> str:
    """Cases that lack a method's volume, by method."""
    told = [f"{name} {count}" for name, count in counts.items() if count]
    return f"Cases left out for want of a volume: {', '.join(told)}. " if told else ""
