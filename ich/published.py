"""Published results to print beside a run. They come from other patients: anchors, not competitors."""

import pandas as pd

# Of Wang 2019 (`REFERENCES`): absolute volume error in 97 cases.
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

# One row a result; low and high are limits of agreement of a bias, else a 95 % interval.
ANCHORS = pd.DataFrame(
    [
        ("Wang 2019", "parenchymal", 100, "Dice", 0.87, None, None, "mean"),
        ("Sharrock 2020", "DeepBleed", 500, "Dice", 0.914, None, None, "mean"),
        ("Kok 2022", "nnU-Net, TICH-2", 174, "Dice", 0.92, None, None, "median"),
        ("Elsheikh 2024", "after surgery", 59, "Dice", 0.86, None, None, ""),
        ("INSTANCE 2022", "winner", 70, "Dice", 0.6925, None, None, "mean, all bleed types"),
        ("INSTANCE 2022", "best Dice", 70, "Dice", 0.721, None, None, "mean, all bleed types"),
        ("Kok 2022", "nnU-Net, TICH-2", 174, "CCC", 0.98, None, None, ""),
        ("Scherer 2016", "software", 28, "CCC", 0.95, None, None, "cases it was trained on"),
        ("Scherer 2016", "software", 30, "CCC", 0.99, None, None, "other cases"),
        ("Scherer 2016", "ABC/2", 28, "CCC", 0.77, None, None, ""),
        ("Scherer 2016", "ABC/2", 30, "CCC", 0.82, None, None, ""),
        ("Elsheikh 2024", "after surgery", 59, "ICC", 0.94, 0.91, 0.97, ""),
        ("Sharrock 2020", "DeepBleed", 500, "bias, ml", 1.7, None, None, "mean volume difference; RMSE 4.7 ml"),
        ("Lu 2025", "ABC/2", 118, "bias, ml", 4.65, -10.8, 20.2, "limits of agreement"),
        ("Colmer 2026", "software", 300, "mean absolute difference, ml", 11.2, None, None, ""),
        ("Colmer 2026", "ABC/2", 300, "mean absolute difference, ml", 10.1, None, None, ""),
        ("Webb 2015", "ABC/2", 4369, "within 5 ml", 0.84, None, None, "scans of 507 patients"),
        ("Webb 2015", "ABC/2", 4369, "within 20 %", 0.48, None, None, "scans of 507 patients"),
    ],
    columns=["study", "what", "n", "measure", "value", "low", "high", "text"],
).astype({"value": float, "low": float, "high": float})

REFERENCES = {
    "Wang 2019": "Wang et al. Chinese Journal of Radiology 2019;53(11):941-945",
    "Sharrock 2020": "Sharrock et al. 3D deep neural network segmentation of intracerebral hemorrhage: development and "
    "validation for clinical trials. Neuroinformatics 2021;19:403-415 (online 2020), doi:10.1007/s12021-020-09493-5",
    "Kok 2022": "Kok et al. Semantic segmentation of spontaneous intracerebral hemorrhage, intraventricular "
    "hemorrhage, and associated edema on CT images using deep learning. Radiology: Artificial Intelligence "
    "2022;4(6):e220096, doi:10.1148/ryai.220096",
    "Elsheikh 2024": "Elsheikh et al. Accuracy of automated segmentation and volumetry of acute intracerebral "
    "hemorrhage following minimally invasive surgery using a patch-based convolutional neural network in a small "
    "dataset. Neuroradiology 2024;66(4), doi:10.1007/s00234-024-03311-4",
    "INSTANCE 2022": "Li et al. The state-of-the-art 3D anisotropic intracranial hemorrhage segmentation on "
    "non-contrast head CT: the INSTANCE challenge. arXiv:2301.03281 (2023)",
    "Scherer 2016": "Scherer et al. Development and validation of an automatic segmentation algorithm for "
    "quantification of intracerebral hemorrhage. Stroke 2016;47(11):2776-2782",
    "Lu 2025": "cited at second hand: the paper itself was not at hand",
    "Colmer 2026": "Colmer et al. Validity of intracerebral haemorrhage volume assessment: comparison of fully "
    "automated segmentation analysis with manual ABC/2 and semi-automated measurement. European Stroke Journal 2026, "
    "doi:10.1093/esj/aakaf020",
    "Webb 2015": "Webb et al. Accuracy of the ABC/2 score for intracerebral hemorrhage: systematic review and analysis "
    "of MISTIE, CLEAR-IVH, and CLEAR III. Stroke 2015;46(9):2470-2476",
}

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
    One row per measure and result: measure, label, n, value, low, high, text, published, study (empty for this run's).
    This run's low and high are 95 % intervals, those of the bias its limits of agreement, as in print.
    """
    rows: list[dict] = []
    for measure, (key, ends, text) in _MEASURES.items():
        for name, panel in panels.items():
            interval = panel[ends] if isinstance(ends, str) else [panel[end] for end in ends]
            low, high = interval or (None, None)
            own = {"measure": measure, "label": name, "n": panel["n"], "value": panel[key], "low": low, "high": high}
            rows.append(own | {"text": text})
    return _with_anchors(pd.DataFrame(rows), list(_MEASURES))


def dice_beside(means: pd.DataFrame) -> pd.DataFrame:
    """This run's Dice by hemorrhage type above the published one, as `beside` has agreement.

    Parameters
    ----------
    means : rows of `ich.resampling.mean_by_group` by hemorrhage_type.
    """
    own = means.rename(columns={"mean": "value", "mean_ci_low": "low", "mean_ci_high": "high"})
    own = own.assign(measure="Dice", label=own["hemorrhage_type"], text="mean")
    return _with_anchors(own, ["Dice"])


def _with_anchors(own: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """Rows of this run, and below those of each measure the published ones."""
    printed = ANCHORS.assign(label=ANCHORS["study"] + ", " + ANCHORS["what"], published=True)
    own = own.assign(published=False, study="")
    rows = [part[part["measure"] == measure] for measure in measures for part in (own, printed)]
    columns = ["measure", "label", "n", "value", "low", "high", "text", "published", "study"]
    numbers = {"value": float, "low": float, "high": float}
    return pd.concat([part[columns].astype(numbers) for part in rows], ignore_index=True)


def references(rows: pd.DataFrame) -> str:
    """Where the studies of these rows of `beside` were published, as a list in Markdown."""
    studies = rows.loc[rows["published"], "study"].drop_duplicates().sort_values()
    return "\n".join(f"- {study}: {REFERENCES[study]}." for study in studies)
