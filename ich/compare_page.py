"""The page of a comparison of runs, in the dress of a run's first page, and its tables beside it."""

import json
import shutil
from pathlib import Path

import pandas as pd

from ich import tables
from ich.atomic import write_text
from ich.compare import BLOOD, Comparison, measured_cases
from ich.front_page import render
from ich.html import page, use_notice
from ich.marks import calipers, mark, signed_mark
from ich.print_tables import INTERVALS, PrintTable, method_name
from ich.wording import DASH, number, p_said

SHOWN_CASES = 8
RECORD = "comparison.json"  # written last: what a folder of a comparison is known by


def write_comparison(found: Comparison, out: Path) -> Path:
    """Write index.html and tables/*.csv; an earlier comparison there is replaced. Returns the page.

    Raises
    ------
    FileExistsError : the folder holds something else.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / RECORD).is_file():
            raise FileExistsError(
                f"{out.name} is not empty and holds no {RECORD}: not a comparison, so nothing is written"
            )
        (out / RECORD).unlink()
        shutil.rmtree(out / "tables", ignore_errors=True)
    written = {name: table for name, table in found.tables().items() if len(table)}
    for name, table in written.items():
        tables.write_plain(table, out / "tables" / f"{name}.csv")
    write_text(out / "index.html", comparison_html(found, list(written)))
    runs = [
        {
            "name": run.name,
            "run": run.manifest["run"],
            "ended": run.manifest["ended"],
            "commit": run.manifest["code"]["commit"],
        }
        for run in found.runs
    ]
    write_text(
        out / RECORD,
        json.dumps({"method": found.method, "label": found.label, "runs": runs}, indent=2, ensure_ascii=False) + "\n",
    )
    return out / "index.html"


def comparison_html(found: Comparison, files: list[str]) -> str:
    """The page of a comparison, whole and without a request."""
    what = f"{method_name(found.method, 'network')} {'' if found.label == BLOOD else f'{found.label} '}".strip()
    names = [run.name for run in found.runs]
    title = f"{what} volumes of {len(names)} runs compared"
    title = title[:1].upper() + title[1:] + (" (simulated)" if found.simulated else "")
    ended = max(run.manifest["ended"] for run in found.runs)[:10]
    agreed = found.agreement.astype(object).where(found.agreement.notna(), "")
    rows = [
        {name: str(value) for name, value in row.items()} | {"name": row["run"]} for row in agreed.to_dict("records")
    ]
    values = {
        "eyebrow": f"Comparison of runs · newest of {ended}",
        "title": title,
        "simulated": _simulated(found),
        "use": use_notice({}),
        "question": f"Do {', '.join(names[:-1])} and {names[-1]} give the same volumes and outlines on the same cases?",
        "answer": _answer(found),
        "calipers": calipers(rows),
        "runs": _runs(found),
        "settings": _settings(found) if len(found.settings) else None,
        "paired": _paired(found),
        "paired_marks": _paired_marks(found.paired),
        "agreement": _agreement(found),
        "dice": _dice(found) if len(found.dice) else None,
        "dice_marks": _dice_marks(found.dice),
        "apart": _apart(found),
        "limits": _limits(found),
        "files": files,
    }
    return page(title, render("compare.html.j2", **values), front=True)


def _span(row: dict, value: str, low: str, high: str, digits: int) -> str:
    if pd.isna(row[value]):
        return DASH
    if pd.isna(row[low]):
        return number(row[value], digits)
    return f"{number(row[value], digits)} ({number(row[low], digits)} to {number(row[high], digits)})"


def _digits(measure: str) -> int:
    return 3 if measure == "Dice" else 1


def _simulated(found: Comparison) -> str:
    names = [run.name for run in found.runs if run.simulated]
    if not names:
        return ""
    of = "All runs are" if len(names) == len(found.runs) else f"{', '.join(names)}:"
    return f"{of} on simulated scans; their numbers say nothing about patients."


def _answer(found: Comparison) -> str:
    """One sentence for each two runs, at most three, largest difference first."""
    main = found.paired[(found.paired["measure"] == "absolute error, ml") & (found.paired["group"] == "all")]
    main = main.assign(size=main["difference"].abs()).sort_values("size", ascending=False)
    scores = found.paired[(found.paired["measure"] == "Dice") & (found.paired["group"] == "all")].set_index(
        ["first", "second"]
    )
    parts = []
    for row in main.head(3).to_dict("records"):
        text = f"{row['first']} errs by {number(row['first_mean'], 1)} ml and {row['second']} by "
        text += f"{number(row['second_mean'], 1)} ml on average (n = {row['n']}), difference "
        text += f"{_span(row, 'difference', 'difference_ci_low', 'difference_ci_high', 1)} ml"
        if (row["first"], row["second"]) in scores.index:
            score = scores.loc[(row["first"], row["second"])].to_dict()
            text += f", Dice differs by {_span(score, 'difference', 'difference_ci_low', 'difference_ci_high', 3)}"
        parts.append(text)
    more = len(main) - len(parts)
    rest = f" ({more} more pair{'' if more == 1 else 's'} below)" if more else ""
    return f"On the same cases {'; '.join(parts)}{rest}; in brackets 95 % intervals."


def _runs(found: Comparison) -> PrintTable:
    rows = tuple(
        (
            run.name,
            run.manifest["title"],
            run.manifest["ended"][:10],
            "simulated" if run.simulated else "not simulated",
            str(len(measured_cases(run, found.method))),
            str(len(found.cases)),
        )
        for run in found.runs
    )
    return PrintTable(
        "runs",
        "Runs and the cases they share",
        ("Run", "Study", "Finished", "Data", "Cases measured", "Shared by all"),
        rows,
        f"Shared cases are of {found.cases['patient_id'].nunique()} patients and have the same reference volume in "
        "every run.",
        worded=4,
    )


def _settings(found: Comparison) -> PrintTable:
    rows = tuple(tuple(row) for row in found.settings.astype(str).itertuples(index=False, name=None))
    header = ("Parameter", *(run.name for run in found.runs))
    return PrintTable(
        "settings",
        "Parameters that differ",
        header,
        rows,
        f"{DASH}: the run has no such parameter.",
        worded=len(header),
    )


def _of(found: Comparison) -> str:
    return " (simulated data)" if found.simulated else ""


def _blood(found: Comparison) -> str:
    """Which blood is compared, in a heading."""
    return "blood as a whole" if found.label == BLOOD else f"{found.label} blood"


def _p(value: float) -> str:
    return DASH if pd.isna(value) else p_said(value).replace("below ", "<")


def _paired(found: Comparison) -> PrintTable:
    pairs = [f"{first} − {second}" for first, second in zip(found.paired["first"], found.paired["second"], strict=True)]
    starts = tuple(at for at in range(len(pairs)) if at == 0 or pairs[at] != pairs[at - 1])
    rows = tuple(
        (
            pairs[at] if at in starts else "",
            row["measure"] + ("" if row["group"] == "all" else f", {row['group']}"),
            f"{row['n']} ({row['n_patients']})",
            number(row["first_mean"], _digits(row["measure"])),
            number(row["second_mean"], _digits(row["measure"])),
            _span(row, "difference", "difference_ci_low", "difference_ci_high", _digits(row["measure"])),
            DASH
            if pd.isna(row.get("loa_lower"))
            else f"{number(row['loa_lower'], 1)} to {number(row['loa_upper'], 1)}",
            _p(row["p_holm"]),
        )
        for at, row in enumerate(found.paired.to_dict("records"))
    )
    missing = int(found.paired["n_missing"].max())
    lacking = f" Cases without a volume in one of both runs are left out, at most {missing}." if missing else ""
    return PrintTable(
        "paired",
        "First run − second run on the same cases" + _of(found),
        ("Runs", "Measure", "n (patients)", "First", "Second", "Difference", "Limits of agreement", "P"),
        rows,
        f"Mean difference (95 % interval, {INTERVALS}), not adjusted for the number of comparisons; P: Wilcoxon's test "
        f"of patients' mean differences, adjusted over the pairs of runs (Holm). Volumes: {_compared(found)}; limits "
        f"of agreement are of the one run with the other.{lacking}",
        worded=2,
        groups=starts,
    )


def _compared(found: Comparison) -> str:
    if found.label == BLOOD:
        return "cases that are parenchymal or of no stated type"
    return f"{found.label} blood of the cases whose reference has it"


def _paired_marks(paired: pd.DataFrame) -> dict | None:
    """Each measure on a scale of its own, as wide as its widest interval."""
    ends = ["difference", "difference_ci_low", "difference_ci_high"]
    tops = paired[ends].abs().max(axis=1).groupby(paired["measure"]).max()
    drawn = [
        signed_mark(row["difference"], row["difference_ci_low"], row["difference_ci_high"], tops[row["measure"]])
        if tops[row["measure"]] > 0 and not pd.isna(row["difference"])
        else None
        for row in paired.to_dict("records")
    ]
    return {"heading": "below 0 | above", "rows": drawn}


def _agreement(found: Comparison) -> PrintTable:
    rows = tuple(
        (
            row["run"],
            str(row["n"]),
            _span(row, "bias", "bias_ci_low", "bias_ci_high", 1),
            number(row["sd"], 1),
            _span(row, "loa_lower", "loa_lower_ci_low", "loa_lower_ci_high", 1),
            _span(row, "loa_upper", "loa_upper_ci_low", "loa_upper_ci_high", 1),
            _span(row, "mean_absolute_error", "mean_absolute_error_ci_low", "mean_absolute_error_ci_high", 1),
        )
        for row in found.agreement.to_dict("records")
    )
    return PrintTable(
        "agreement",
        f"Difference from the reference volume of {_blood(found)}, shared cases" + _of(found),
        ("Run", "n", "Bias, ml", "SD, ml", "Lower limit, ml", "Upper limit, ml", "Absolute error, ml"),
        rows,
        "Difference = run − reference. In brackets 95 % intervals, which allow for several scans of a patient: of the "
        f"bias by t, of the limits of agreement by noncentral t, of the mean absolute error {INTERVALS}.",
    )


def _dice(found: Comparison) -> PrintTable:
    rows = found.dice.to_dict("records")
    cells, groups, before = [], [], ""
    for at, row in enumerate(rows):
        new = row["hemorrhage_type"] != before
        groups += [at] if new else []
        before = row["hemorrhage_type"]
        cells.append(
            (
                before if new else "",
                row["run"],
                f"{row['n']} ({row['n_patients']})",
                _span(row, "mean", "mean_ci_low", "mean_ci_high", 2),
            )
        )
    return PrintTable(
        "dice",
        f"Dice of {_blood(found)}, shared cases" + _of(found),
        ("Type", "Run", "n (patients)", "Mean Dice"),
        tuple(cells),
        f"Mean (95 % interval, {INTERVALS}); n cases (of so many patients).",
        worded=2,
        groups=tuple(groups),
    )


def _dice_marks(dice: pd.DataFrame) -> dict | None:
    if dice.empty:
        return None
    texts = dice[["mean", "mean_ci_low", "mean_ci_high"]].astype(object).where(dice.notna(), "").astype(str)
    drawn = [
        mark(value, low, high, "", 1.0) if value else None
        for value, low, high in texts.itertuples(index=False, name=None)
    ]
    return {"heading": "0 to 1", "rows": drawn}


def _apart(found: Comparison) -> PrintTable:
    volumes = found.cases[[f"{run.name}: ml" for run in found.runs]]
    width = (volumes.max(axis=1) - volumes.min(axis=1)).sort_values(ascending=False)
    chosen = found.cases.loc[width.head(SHOWN_CASES).index]
    rows = tuple(
        (
            case["case_id"],
            case["hemorrhage_type"] if isinstance(case["hemorrhage_type"], str) else "not stated",
            number(case["reference_ml"], 1),
            *(number(case[f"{run.name}: ml"], 1) for run in found.runs),
        )
        for case in chosen.to_dict("records")
    )
    return PrintTable(
        "apart",
        "Volumes, ml" + _of(found),
        ("Case", "Type", "Reference", *(run.name for run in found.runs)),
        rows,
        f"The {len(rows)} of {len(found.cases)} shared cases with the widest range of volumes; all are in cases.csv.",
        worded=2,
    )


def _limits(found: Comparison) -> list[str]:
    said = [
        "Runs are compared only on the cases that all of them measured; each run's own report has the rest.",
        "An interval that holds zero does not show that runs are equal, only that these cases cannot tell them apart.",
        "Differences between seeds are of the training; differences between readers or models are of much else too.",
    ]
    apart = [f"{run.name} {run.agreed_on}" for run in found.runs if run.agreed_on != found.label]
    if apart:
        said.append(
            f"Here the volumes are of {_blood(found)}; the runs' own reports compare other: {', '.join(apart)}."
        )
    if len(found.dice) == 0:
        said.append("No overlap is compared: not every run has masks of this method.")
    listed = set.intersection(*(set(run.measurements["case_id"]) for run in found.runs))
    unusable = {run.name: len(listed - measured_cases(run, found.method)) for run in found.runs}
    said += [
        f"{count} case{'' if count == 1 else 's'} without a volume in {run} left out."
        for run, count in unusable.items()
        if count
    ]
    if found.simulated and not all(run.simulated for run in found.runs):
        said.append("Runs on simulated and on other data are mixed.")
    return said
