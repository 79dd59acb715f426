"""Published results to print beside a run. They come from other patients: anchors, not competitors."""

import pandas as pd

# Wang et al., Chinese Journal of Radiology 2019;53(11):941-945. Absolute volume error in 97 cases.
PAPER_ERRORS = pd.DataFrame(
    [
        ("network", "<5", 0.52, 0.54),
        ("network", "5-25", 1.53, 1.22),
        ("network", ">25", 7.93, 8.49),
        ("ABC/2", "<5", 0.68, 0.60),
        ("ABC/2", "5-25", 3.16, 2.90),
        ("ABC/2", ">25", 19.31, 17.23),
    ],
    columns=["method", "group", "mean_ml", "sd_ml"],
)

# The same study: 100 parenchymal and 62 other test cases.
PAPER_DICE = pd.DataFrame(
    [("parenchymal", 0.87), ("ventricular", 0.85), ("subarachnoid", 0.67), ("mixed", 0.77)],
    columns=["hemorrhage_type", "dice"],
)

ANCHORS = pd.DataFrame(
    [
        ("Wang 2019, parenchymal", 100, "Dice", 0.87, None, None, "mean"),
        ("Sharrock 2020, DeepBleed", 500, "Dice", 0.914, None, None, ""),
        ("Kok 2022, nnU-Net, TICH-2", 174, "Dice", 0.92, None, None, "median"),
        ("Elsheikh 2024", 59, "Dice", 0.86, None, None, ""),
        ("INSTANCE 2022, winner", 70, "Dice", 0.6925, None, None, "all bleed types"),
        ("INSTANCE 2022, best Dice", 70, "Dice", 0.721, None, None, "all bleed types"),
        ("Kok 2022, nnU-Net, TICH-2", 174, "CCC", 0.98, None, None, ""),
        ("Scherer 2016, software", 58, "CCC", None, 0.95, 0.99, "range over readers"),
        ("Scherer 2016, ABC/2", 58, "CCC", None, 0.77, 0.82, "range over readers"),
        ("Elsheikh 2024", 59, "ICC", 0.94, None, None, ""),
        ("Sharrock 2020, DeepBleed", 500, "bias, ml", 1.7, None, None, "mean volume difference; RMSE 4.7 ml"),
        ("Lu 2025, ABC/2", 118, "bias, ml", 4.65, -10.8, 20.2, "limits of agreement"),
        ("Colmer 2026, software", 300, "mean absolute difference, ml", 11.2, None, None, ""),
        ("Colmer 2026, ABC/2", 300, "mean absolute difference, ml", 10.1, None, None, ""),
        ("Webb 2015, ABC/2", 4369, "within 5 ml", 0.84, None, None, ""),
        ("Webb 2015, ABC/2", 4369, "within 20 %", 0.48, None, None, ""),
    ],
    columns=["source", "n", "measure", "value", "low", "high", "note"],
).astype({"value": float, "low": float, "high": float})

# What each published measure is called in the result of `ich.agreement.panel`, and its interval there.
_MEASURES = {
    "bias, ml": ("bias", ("loa_lower", "loa_upper"), "limits of agreement"),
    "mean absolute difference, ml": ("mean_absolute_error", "mean_absolute_error_ci", ""),
    "CCC": ("ccc", "ccc_ci", ""),
    "ICC": ("icc_a1", "icc_a1_ci", "ICC(A,1)"),
    "within 5 ml": ("within_5_ml", "within_5_ml_ci", ""),
    "within 20 %": ("within_20_percent", "within_20_percent_ci", ""),
}


def beside(panels: dict[str, dict]) -> pd.DataFrame:
    """This run's agreement above the published anchors, for `draw_forest`.

    Parameters
    ----------
    panels : name of a method -> result of `ich.agreement.panel`.

    Returns
    -------
    One row per measure and result: measure, label, n, value, low, high, text, published. This run's low and high are
    95 % intervals, those of the bias its limits of agreement, as in print.
    """
    rows: list[dict] = []
    for measure, (key, ends, text) in _MEASURES.items():
        for name, panel in panels.items():
            interval = panel[ends] if isinstance(ends, str) else [panel[end] for end in ends]
            low, high = interval or (None, None)
            own = {"measure": measure, "label": name, "n": panel["n"], "value": panel[key], "low": low, "high": high}
            rows.append(own | {"text": text, "published": False})
        printed = ANCHORS[ANCHORS["measure"] == measure].rename(columns={"source": "label", "note": "text"})
        rows += printed.assign(published=True).to_dict("records")
    return pd.DataFrame(rows).astype({"value": float, "low": float, "high": float})
