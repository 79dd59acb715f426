"""ABC/2 against planimetry on 258 expert masks of real head CT, which lie outside the project.

Writes reports/checks/abc2_planimetry.csv (aggregated, no row per case) and .md (what it means). The masks are
from Song et al. 2024, arXiv:2405.14559; both volumes come from one outline, so only the formula can differ.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ich.agreement import agreement_table
from ich.comparison import volume_group
from ich.measure import measure_masks
from ich.tables import write_plain

ROOT = Path(__file__).resolve().parents[2]
MASKS = ROOT.parent / "shared" / "data" / "masks" / "hemseg"
METHODS = {
    "abc2_ml": "ABC/2, C = all slices, B = chord, whole mask (primary)",
    "abc2_kothari_ml": "ABC/2, Kothari's C",
    "abc2_width_ml": "ABC/2, B = width",
    "abc2_components_ml": "ABC/2, sum over components",
    "abc2_filtered_ml": "ABC/2 without components < 0.1 ml",
    "abc3_ml": "ABC/3",
    "two_thirds_sh_ml": "2/3 S H",
}
STRATA = ["volume_ml_group", "components", "tilt", "dataset_label"]
COLUMNS = [
    "bias", "bias_ci_low", "bias_ci_high", "sd", "loa_lower", "loa_lower_ci_low", "loa_lower_ci_high",
    "loa_upper", "loa_upper_ci_low", "loa_upper_ci_high", "ratio_bias", "ratio_bias_ci_low",
    "ratio_bias_ci_high", "ratio_loa_lower", "ratio_loa_upper", "ccc",
]  # fmt: skip


def measured() -> pd.DataFrame:
    """One row per mask with its strata; stays in memory."""
    table, failures = measure_masks(sorted(MASKS.glob("*.nii.gz")), jobs=2)
    if len(failures):
        raise SystemExit(f"{len(failures)} masks could not be measured: {failures.iloc[0].to_dict()}")
    scans = pd.read_csv(MASKS / "scans.csv", dtype="str").rename(columns={"scan_id": "case_id"})
    table = table.merge(scans, on="case_id", validate="one_to_one")
    tilt = table["tilt_deg"].abs()
    return table.assign(
        volume_ml_group=volume_group(table["volume_ml"]),
        components=np.select([table["n_components"] == 1, table["n_components"] == 2], ["1", "2"], "3 or more"),
        tilt=np.select([tilt < 0.5, tilt <= 15], ["none", "up to 15 degrees"], "over 15 degrees"),
    )


def summary(cases: pd.DataFrame) -> pd.DataFrame:
    """Agreement of each variant with planimetry, over all masks and within each stratum."""
    found = agreement_table(cases, "volume_ml", list(METHODS), STRATA, patient="patient_id")
    found["method"] = found["method"].map(METHODS)
    return found[["method", "stratum", "n", "n_patients", *COLUMNS]]


MEANING = """\
# ABC/2 against planimetry on real outlines

On {n} expert masks of {n_patients} patients, ABC/2 by the primary rule differs by {bias:+.1f} ml on average
from planimetry of the same outline (95 % interval {bias_ci_low:+.1f} to {bias_ci_high:+.1f}; limits of
agreement {loa_lower:+.1f} to {loa_upper:+.1f} ml) and is {all} times the volume where an
ellipsoid has 0.95, and the SD of the difference grows from {small:.1f} ml below 5 ml over {middle:.1f} to
{large:.1f} ml above 25 ml, so that one pair of limits fits no group.
The excess goes with parts that lie apart: {one} times the volume with one component,
{two} with two, {more} with three or more,
{label_0} in masks labeled 0 (they look parenchymal), {label_1} in those labeled 1
(ventricular), but {parts} when summed over components, and alike without tilt,
{level}, and above 15 degrees, {tilted}.
"""


def meaning(found: pd.DataFrame) -> str:
    """Two sentences on the primary rule, all numbers from the table; ratios with their 95 % intervals."""
    rows = found[found["method"] == METHODS["abc2_ml"]].set_index("stratum")
    by_part = found[found["method"] == METHODS["abc2_components_ml"]].set_index("stratum").loc["all"]

    def ratio(row):
        return "{ratio_bias:.2f} ({ratio_bias_ci_low:.2f} to {ratio_bias_ci_high:.2f})".format(**row)

    strata = {
        "all": "all", "one": "components: 1", "two": "components: 2", "more": "components: 3 or more",
        "label_0": "dataset_label: 0", "label_1": "dataset_label: 1", "level": "tilt: none",
        "tilted": "tilt: over 15 degrees",
    }  # fmt: skip
    groups = {"small": "<5", "middle": "5-25", "large": ">25"}
    values = rows.loc["all"].to_dict() | {name: ratio(rows.loc[stratum]) for name, stratum in strata.items()}
    values |= {name: rows.loc[f"volume_ml_group: {group}", "sd"] for name, group in groups.items()}
    return MEANING.format(**values, parts=ratio(by_part))


def main() -> None:
    if not MASKS.is_dir():
        sys.exit("the real masks are not at ../shared/data/masks/hemseg: nothing written")
    found = summary(measured())
    target = ROOT / "reports" / "checks" / "abc2_planimetry.csv"
    write_plain(found, target)
    target.with_suffix(".md").write_text(meaning(found))
    print(found[found["method"] == METHODS["abc2_ml"]].round(2).to_string(index=False))
    print(meaning(found))


if __name__ == "__main__":
    main()
