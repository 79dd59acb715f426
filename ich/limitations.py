"""What a run knows of its own limits, for its first page."""

from pathlib import Path

from ich.assumptions import ALPHA
from ich.print_tables import PAPER, beside_paper, dice_rows, read_rows
from ich.wording import enough_digits, number

FEW = 10  # cases; intervals of a smaller group are wide or missing


def limits_of(run: Path, said: dict, own: str) -> list[str]:
    """Sentences, those of 04 first.

    Parameters
    ----------
    said : answer.json. own : what the run calls the masks it tests.
    """
    given = said.get("limits") or []
    found = [given] if isinstance(given, str) else list(given)
    errors = read_rows(run, "error_by_group")
    small = [
        f"{row['group']} ml ({row['n']})"
        for row in errors
        if row["method"] == errors[0]["method"] and row["group"] != "all" and int(row["n"]) < FEW
    ]
    small += [f"{row['hemorrhage_type']} ({row['n']})" for row in dice_rows(run) if int(row["n"]) < FEW]
    if small:
        found.append(f"Groups of fewer than {FEW} cases tell little: {', '.join(small)}.")
    for trend, methods in _trends(run, own).items():
        found.append(f"{trend.format('; '.join(methods))}; agreement.csv has limits that follow the volume.")
    found += _misses(run, own)
    blank = [
        row
        for row in read_rows(run, "detection")
        if (row.get("reader"), row["marked"]) == ("network", "at all") and row["n_without"] != "0"
    ]
    blood = [row for row in read_rows(run, "by_label") if (row["reader"], row["label"]) == ("network", "blood")]
    if blank:
        share = " to ".join(number(1 - float(blank[0][f"specificity_ci_{end}"] or "nan"), 2) for end in ("high", "low"))
        found.append(
            f"On {blank[0]['n_false']} of {blank[0]['n_without']} scans without blood the {own} "
            f"mark{'' if own != 'network' else 's'} blood (95 % interval of the share {share}; at most "
            f"{_ml(blank[0]['false_max_ml'])}); these scans are in no other number of this report."
        )
    elif blood and blood[0]["n_without"] in ("0", ""):
        found.append(
            f"Every test case holds blood: how often the {own} mark{'' if own != 'network' else 's'} blood where there "
            "is none is not known here."
        )
    if (run / "tables" / "training.csv").is_file():
        found.append("One training on one split: another seed or another hospital will give other numbers.")
    elif blood and own == "network":
        found.append(
            "The network was trained in another study: none of its scans is among these, as far as its model folder "
            "tells, but another scan of one of its patients might be."
        )
    if own != "network":
        found.append("The predictions were made elsewhere; notebooks, figures and CSV tables call them network.")
    if dice_rows(run) or beside_paper(errors):
        found.append(f"{PAPER} studied other patients, scanners and readers: beside this run, not against it.")
    return found


_GROWS = "Differences spread more in large hematomas ({}): one pair of limits in ml is too wide for small ones and too "
_GROWS += "narrow for large ones"
_SHRINKS = (
    "Differences spread less in large hematomas ({}): one pair of limits in ml is too narrow for small ones and too "
)
_SHRINKS += "wide for large ones"
_TILTS = "The bias changes with the volume ({}): no one bias holds for small and for large hematomas"


def _trends(run: Path, own: str) -> dict[str, list[str]]:
    """Sentences on what constant limits hide, with the methods that each is true of."""
    found: dict[str, list[str]] = {}
    for row in read_rows(run, "assumption_checks"):
        if row["scale"] != "ml":
            continue
        name = own if row["method"] == "network" else row["method"]
        if float(row["spread_p"] or 1) < ALPHA:
            found.setdefault(_GROWS if float(row["spread_slope"]) > 0 else _SHRINKS, []).append(name)
        elif float(row["proportional_bias_p"] or 1) < ALPHA:
            found.setdefault(_TILTS, []).append(name)
    return found


def _misses(run: Path, own: str) -> list[str]:
    """Labels missed, and labels marked in cases whose reference has none."""
    rows = [row for row in read_rows(run, "by_label") if row["reader"] == "network" and row["label"] != "blood"]
    missed = [
        f"{row['label']} in {row['n_missed']} of {row['n_with']} cases that have it"
        for row in rows
        if row["n_missed"] not in ("0", "")
    ]
    false = [
        f"{row['label']} in {row['n_false']} of {row['n_without']} cases (median {_ml(row['false_median_ml'])}, "
        f"at most {_ml(row['false_max_ml'])})"
        for row in rows
        if row["n_false"] not in ("0", "")
    ]
    plural = own != "network"
    told = [
        (missed, f"The {own} {'miss' if plural else 'misses'}"),
        (false, f"Where the reference has none of a label, the {own} {'mark' if plural else 'marks'} it:"),
    ]
    return [f"{what} {'; '.join(each)}." for each, what in told if each]


def _ml(volume: str) -> str:
    return f"{number(volume, enough_digits((volume,), 1))} ml"
