"""Sentences of the notebooks whose truth depends on the data."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from ich.assumptions import UNCHECKED
from ich.bland_altman import bland_altman
from ich.pairs import FEWEST
from ich.volume_limits import QUOTED_AT_ML, RegressionLimits

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


def number(text: str | float, digits: int = 1) -> str:
    """A number as print has it, with a true minus sign; a dash where there is none."""
    value = float(text) if text not in ("", None) else math.nan
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    shown = f"{value:.{digits}f}"
    return (shown[1:] if float(shown) == 0 and shown.startswith("-") else shown).replace("-", MINUS)


def enough_digits(values: Sequence[str | float], digits: int) -> int:
    """Digits to print, one more than wanted where a value that is not 0 would read as 0: its sign may decide."""
    numbers = [float(value) for value in values if value not in ("", None)]
    return digits + any(number != 0 and round(number, digits) == 0 for number in numbers if math.isfinite(number))


def largest_tenth(volume_ml: pd.Series) -> str:
    """Mean and median of volumes, and how much of all blood a tenth of the cases holds: the plain words for skewed."""
    volume = volume_ml.dropna().sort_values(ascending=False)
    tenth = volume.head(math.ceil(len(volume) / 10))
    return (
        f"Mean {volume.mean():.1f} ml, median {volume.median():.1f} ml; the largest tenth of the cases "
        f"(n = {len(tenth)}) holds {100 * tenth.sum() / volume.sum():.0f} % of the volume, "
        "and weighs accordingly in mean errors that grow with it."
    )


def case_ids(*, source: bool = False, public: bool = False, manifest: bool = False, masks: bool = False) -> str:
    """What the case ids of a cohort are.

    Parameters
    ----------
    source, manifest, masks : which of them the cases come from; none: the embedded cohort.
    public : whether the ids are published with the dataset.
    """
    if source:
        return "those published with the dataset" if public else "pseudonyms, with their key in data/key.csv"
    if manifest:
        return "those of the manifest"
    return "the file names of the masks" if masks else "numbers of simulated cases"


def too_few_to_compare(cases: pd.DataFrame, volumes: Sequence[str]) -> str:
    """Why 04 cannot compare the columns `volumes` of these cases, of `ich.tables.for_abc2`; empty where it can."""
    complete = [cases[cases[column].notna()] for column in volumes]
    n, patients = (
        min(counts) for counts in zip(*((len(part), part["patient_id"].nunique()) for part in complete), strict=True)
    )
    if patients >= FEWEST:
        return ""
    return (
        f"agreement needs cases of at least {FEWEST} patients that are parenchymal or of no stated type; {n} can be "
        f"compared, of {patients}"
    )


def reference_outlines(simulated: bool) -> str:
    """Whose the reference outlines are, as far as a run knows."""
    if simulated:
        return "Scans are simulated, and so are the reference and second outlines: no reader drew them."
    return "Reference outlines are taken as given; how many readers drew them is not known here."


def volumes_differ(panels: Mapping[str, Mapping], names: Mapping[str, str], kind: str = "") -> str:
    """By how much each method's volumes differ from the reference, in one sentence.

    Parameters
    ----------
    panels : of `ich.agreement.panel`, by method.
    names : what the sentence calls each method.
    kind : word before "cases", such as "simulated".
    """
    counts = [panel["n"] for panel in panels.values()]
    unlike = len(set(counts)) > 1  # some cases lack one of the volumes, so every method says its own n
    parts = [
        f"{panel['bias']:+.1f} ml for {names[method]} ("
        + (f"n = {panel['n']}; " if unlike else "")
        + f"95 % limits of agreement {panel['loa_lower']:.1f} to {panel['loa_upper']:.1f} ml, "
        f"{100 * panel['within_5_ml']:.0f} % of cases within 5 ml)"
        for method, panel in panels.items()
    ]
    cases = " ".join(filter(None, (str(max(counts)), kind, "cases")))
    return f"In {cases} the volume differs from the reference by {' and '.join(parts)}.".replace(" -", f" {MINUS}")


def outlier_said(differences: pd.Series, name: str) -> str:
    """Which case lies more than 3 SD from the mean difference (ml), and what the bias is without it; else empty."""
    found = differences.dropna()
    far = (found - found.mean()).abs()
    if not far.max() > 3 * found.std():
        return ""
    place = int(far.to_numpy().argmax())
    most, without = float(found.iloc[place]), found.drop(found.index[place])
    return (
        f"One case differs by {most:+.1f} ml for {name}; without it the bias is {without.mean():+.1f} instead of "
        f"{found.mean():+.1f} ml."
    ).replace(" -", f" {MINUS}")


def labels_said(cases: pd.DataFrame, own_label: pd.Series, name: str) -> str:
    """How much of a method's volume in parenchymal cases bears another label, as it counts all the same; else empty.

    Parameters
    ----------
    cases : parenchymal cases with case_id, patient_id, reference_ml and network_ml. own_label : ml of blood with the
        label parenchymal by case_id. name : of the method.
    """
    told = cases.assign(own=cases["case_id"].map(own_label).astype("float")).dropna(subset=["own", "network_ml"])
    other = told["network_ml"] - told["own"]
    if told["patient_id"].nunique() < FEWEST or not other.max() >= 0.05:
        return ""
    alone = bland_altman(told["own"], told["reference_ml"], patients=told["patient_id"])
    return (
        f"All blood that {name} marks counts, whatever its label: in {len(told)} parenchymal cases "
        f"{other.mean():.1f} ml on average (at most {other.max():.1f} ml) is labeled ventricular or subarachnoid. Of "
        f"the label parenchymal alone the volume differs by {alone.bias:+.1f} ml (95 % limits of agreement "
        f"{alone.loa_lower:.1f} to {alone.loa_upper:.1f} ml)."
    ).replace(" -", f" {MINUS}")


def other_labels_said(cases: pd.DataFrame) -> str:
    """How much blood of another label the reference outlines of parenchymal cases hold, which counts; else empty.

    Parameters
    ----------
    cases : rows of the cohort that 04 compares.
    """
    known = cases[cases["hemorrhage_type"] == "parenchymal"]
    other = (known["reference_volume_ml"] - known["reference_parenchymal_ml"]).dropna()
    marked = other[other >= 0.05]
    if marked.empty:
        return ""
    return (
        f"Reference outlines of {len(marked)} of {len(other)} parenchymal cases hold blood of another label "
        f"({marked.mean():.1f} ml on average, at most {marked.max():.1f} ml), which counts as their volume; "
        "volume=parenchymal compares the label parenchymal alone."
    )


def quote_said(panel: Mapping) -> str:
    """Which limits of an `ich.agreement.panel` to quote, and why."""
    found = panel["limits_to_quote"]
    if found["limits"] == UNCHECKED:
        return found["reason"]
    return f"quote the **{found['limits']}** limits, because {found['reason']}"


def p_said(p: float | None) -> str:
    """A p value in a sentence."""
    if p is None:
        return "not known"
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def margin_said(panel: Mapping, name: str) -> str:
    """Whether the mean difference, and the limits of agreement that suit the data, lie inside the margin in ml.

    Parameters
    ----------
    panel : of `ich.agreement.panel`. name : of the method.
    """
    tost, margin = panel["tost"], f"±{panel['margin_ml']:g} ml"
    if tost is None:
        return f"For {name} there are too few patients to hold against the margin of {margin}."
    mean = "lies inside" if tost["equivalent"] else "is not shown to lie inside"
    # Tests take patients as independent, so theirs is the mean of the patients' means.
    tested = "mean of the patients' mean differences" if panel["n_patients"] < panel["n"] else "mean difference"
    said = (
        f"For {name} the {tested}, {number(tost['mean'])} ml, {mean} the margin of {margin} (two one-sided "
        f"tests, p {p_said(tost['p'])})"
    )
    kind = panel["limits_to_quote"]["limits"]
    if kind == "regression":
        return f"{said}; {_along_regression(panel)}."
    if kind == "ratio":
        return f"{said}; {_as_ratio(panel)}."
    found = panel["nonparametric_loa"] if kind == "nonparametric" else panel
    limits = "percentiles of the differences" if kind == "nonparametric" else "limits of agreement"
    low, high = (found["loa_lower_ci"] or [None])[0], (found["loa_upper_ci"] or [None])[-1]
    if low is None or high is None:
        return f"{said}; the {limits} have no intervals to hold against it."
    inside = max(-low, high) < panel["margin_ml"]
    ends = f"{low:.1f} to {high:.1f}".replace("-", MINUS)
    verdict = "lie inside as well" if inside else "reach beyond"
    return (
        f"{said}, {'but' if tost['equivalent'] and not inside else 'and'} the {limits}, with their "
        f"intervals {ends} ml, {verdict}."
    )


def _as_ratio(panel: Mapping) -> str:
    """Up to which volume the limits as a ratio, which grow with it, stay inside the margin."""
    found = panel["log_ratio"]
    low, high = (found["loa_lower_ci"] or [None])[0], (found["loa_upper_ci"] or [None])[-1]
    if low is None or high is None:
        return "the limits as a ratio have no intervals to hold against it"
    inside_to = panel["margin_ml"] / max(1 - low, high - 1)
    return (
        f"the limits as a ratio, with their intervals {low:.2f} to {high:.2f} times the reference, stay inside it up "
        f"to a volume of {inside_to:.1f} ml"
    )


def _along_regression(panel: Mapping) -> str:
    """At which of the volumes to quote the limits along the regression, with their intervals, lie inside the margin."""
    slope = RegressionLimits(**panel["regression_loa"])
    at = slope.at([volume for volume in QUOTED_AT_ML if slope.seen[0] <= volume <= slope.seen[1]])
    inside = (at["loa_lower_ci_low"] > -panel["margin_ml"]) & (at["loa_upper_ci_high"] < panel["margin_ml"])
    told = [
        f"{verdict} at {in_words([f'{volume:g}' for volume in at.loc[which, 'volume']])} ml"
        for which, verdict in ((inside, "lie inside"), (~inside, "reach beyond"))
        if which.any()
    ]
    limits = "the limits of agreement along the regression, with their intervals,"
    return (
        f"{limits} {' and '.join(told)}" if told else "the limits of agreement follow the volume, none is quoted here"
    )


def in_words(words: Sequence[str]) -> str:
    """Words as a list in a sentence."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
