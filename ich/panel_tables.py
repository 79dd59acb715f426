"""Tables of several methods' agreement, as 04 and 07 write them: a row per method, from its `ich.agreement.panel`."""

from collections.abc import Mapping

import pandas as pd

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
