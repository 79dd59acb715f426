"""Tables of several methods as 04 and 07 show them: a row per method, most from its `ich.agreement.panel`."""

from collections.abc import Mapping

import pandas as pd

from ich.planning import next_study

SUMMARY = (
    "n",
    "n_patients",
    "bias",
    "sd",
    "loa_lower",
    "loa_upper",
    "ccc",
    "icc_a1",
    "within_5_ml",
    "within_20_percent",
)
CHECKS = ("n", "normality_p", "proportional_bias_p", "spread_slope", "spread_p")


def described(cases: pd.DataFrame, reference: str, labels: Mapping[str, str]) -> pd.DataFrame:
    """n, mean, SD, median, smallest and largest volume, ml, of the reference and of each method.

    Parameters
    ----------
    labels : column of a method -> what it is called.
    """
    found = cases[[reference, *labels]].agg(["count", "mean", "std", "median", "min", "max"]).T
    found.columns = pd.Index(["n", "mean", "SD", "median", "smallest", "largest"])
    found.insert(0, "volume, ml", ["reference", *labels.values()])
    return found.astype({"n": int})


def summary(panels: Mapping[str, Mapping], labels: Mapping[str, str]) -> pd.DataFrame:
    """method and `SUMMARY`.

    Parameters
    ----------
    panels : by column of the method. labels : what each column is called.
    """
    return pd.DataFrame(
        [{"method": labels[column], **{key: panel[key] for key in SUMMARY}} for column, panel in panels.items()]
    )


def assumption_checks(panels: Mapping[str, Mapping], labels: Mapping[str, str]) -> pd.DataFrame:
    """method, scale (ml, ratio) and `CHECKS` of `ich.assumptions`, where a scale is defined."""
    return pd.DataFrame(
        [
            {"method": labels[column], "scale": scale, **{key: found[key] for key in CHECKS}}
            for column, panel in panels.items()
            for scale in ("ml", "ratio")
            if (found := panel["checks"][scale])
        ]
    )


def thresholds(panels: Mapping[str, Mapping], labels: Mapping[str, str]) -> pd.DataFrame:
    """method and the rows of `ich.volume_classes.threshold_accuracy`."""
    return pd.DataFrame(
        [
            {"method": labels[column], **row}
            for column, panel in panels.items()
            for row in panel["classes"]["thresholds"]
        ]
    )


def classes(panels: Mapping[str, Mapping], labels: Mapping[str, str]) -> pd.DataFrame:
    """method, volume points of the ICH score gained and lost, weighted kappa and false expansion with intervals."""
    rows = []
    for column, panel in panels.items():
        found = panel["classes"]
        row: dict = {
            "method": labels[column],
            "ICH-score points gained": found["reclassification"]["gained"],
            "points lost": found["reclassification"]["lost"],
        }
        for name, part, key in (
            ("weighted kappa, clinic classes", found["clinic"], "kappa"),
            ("false expansion, method at follow-up", found["false_expansion"], "replaced_share"),
            ("false expansion, method both times", found["false_expansion"], "repeated_share"),
        ):
            low, high = part[f"{key}_ci"] or (None, None)
            row |= {name: part[key], f"{name}_ci_low": low, f"{name}_ci_high": high}
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({name: float for name in frame.columns[3:]})


def planning(panels: Mapping[str, Mapping], labels: Mapping[str, str]) -> pd.DataFrame:
    """method and what `ich.planning.next_study` says of its panel."""
    return pd.DataFrame([{"method": labels[column], **next_study(dict(panel))} for column, panel in panels.items()])


def notes_said(agreed: pd.DataFrame) -> str:
    """The notes of agreement.csv on all cases, each a sentence, each once."""
    notes = agreed.loc[agreed["stratum"] == "all", "note"].replace("", None).dropna().unique()
    return " ".join(f"{note[:1].upper()}{note[1:]}." for note in notes)


def by_stratum(agreed: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Rows of agreement.csv within strata, to be shown: stratum, method, counts, SD, bias and limits."""
    inside = agreed[agreed["stratum"] != "all"]
    ends = [f"{name}{end}" for name in ("bias", "loa_lower", "loa_upper") for end in ("", "_ci_low", "_ci_high")]
    shown = inside.reindex(columns=["stratum", "method", "n", "n_patients", "sd", *ends])
    order = {name: place for place, name in enumerate(shown["stratum"].unique())}
    shown = shown.sort_values("stratum", key=lambda names: names.map(order), kind="stable")
    return shown.assign(stratum=stratum_said(shown["stratum"]), method=shown["method"].map(labels))


def stratum_said(strata: pd.Series) -> pd.Series:
    """Names of strata, of `ich.strata`, as a reader meets them."""
    said = strata.astype(str)
    volume = said.str.startswith("volume_group: ")
    return said.where(~volume, said.str.replace("volume_group: ", "reference ", regex=False) + " ml")
