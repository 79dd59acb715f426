"""Are simulated hematomas as hard for ABC/2 as real ones? Phantoms against 145 expert masks of real head CT.

Writes reports/checks/phantom_abc2.csv (aggregated, no row per case) and .md (what it means). The real masks lie outside
the project: Song et al. 2024, arXiv:2405.14559, those labeled 0 (they look parenchymal) with at least 1 ml. The ratio
(ABC/2 with C = all slices) / volume does not depend on slice spacing, so it can be compared across scanners.
"""

import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from ich.abc2 import abc2_variants
from ich.measure import measure_masks
from ich.phantom import hemorrhage_type, make_case
from ich.tables import write_plain

ROOT = Path(__file__).resolve().parents[2]
MASKS = ROOT.parent / "shared" / "data" / "masks" / "hemseg"
SEED, N_WANTED, SIZE = 2019, 240, 256
SMALLEST_ML = 1.0
MEDIAN_MARGIN, IQR_MARGIN = 0.08, 0.30  # how far the phantoms may lie from the real masks


def measured_phantom(index: int) -> dict:
    """Volume, ratio and components of the reference outline of one simulated case."""
    case = make_case(SEED, index, SIZE)
    blood = case.labels > 0
    volume_ml = case.grid.volume_ml(blood)
    if volume_ml < SMALLEST_ML:
        return {"volume_ml": volume_ml, "abc2_ml": np.nan, "n_components": 0, "true_ml": case.true_volume_ml[1]}
    row = abc2_variants(blood, case.grid.spacing_mm, case.grid.positions_mm).row()
    return {
        "volume_ml": volume_ml,
        "abc2_ml": row["abc2_ml"],
        "n_components": row["n_components"],
        "true_ml": case.true_volume_ml[1],
    }


def measured_real() -> pd.DataFrame:
    """One row per real mask labeled 0; stays in memory."""
    table, failures = measure_masks(sorted(MASKS.glob("*.nii.gz")), jobs=2)
    if len(failures):
        raise SystemExit(f"{len(failures)} masks could not be measured: {failures.iloc[0].to_dict()}")
    labels = pd.read_csv(MASKS / "scans.csv", dtype={"scan_id": str}).set_index("scan_id")["dataset_label"]
    return table[table["case_id"].map(labels) == 0]


def summary(cases: pd.DataFrame, source: str) -> pd.DataFrame:
    """Quartiles of (ABC/2) / volume over all cases of at least 1 ml and by volume and number of parts."""
    cases = cases[cases["volume_ml"] >= SMALLEST_ML]
    volume, parts = cases["volume_ml"], cases["n_components"]
    strata = {
        "all": volume > 0,
        "1-5 ml": volume < 5,
        "5-25 ml": (volume >= 5) & (volume <= 25),
        ">25 ml": volume > 25,
        "one component": parts == 1,
        "several components": parts > 1,
    }
    rows = []
    for name, chosen in strata.items():
        ratio = cases.loc[chosen, "abc2_ml"] / volume[chosen]
        low, middle, high = ratio.quantile([0.25, 0.5, 0.75])
        rows.append(
            {
                "source": source,
                "stratum": name,
                "n": int(chosen.sum()),
                "ratio_median": middle,
                "ratio_q25": low,
                "ratio_q75": high,
                "ratio_iqr": high - low,
                "several_components": (parts[chosen] > 1).mean(),
                "volume_mean_ml": volume[chosen].mean(),
                "volume_sd_ml": volume[chosen].std(),
            }
        )
    return pd.DataFrame(rows)


MEANING = """\
# ABC/2 on simulated and on real hematomas

Over {n_phantom:.0f} simulated parenchymal hematomas of at least 1 ml (seed {seed}, {size} x {size} pixels) the median
of (ABC/2 with C = all slices) / volume is {phantom}, over
{n_real:.0f} real masks {real}:
the medians differ by {difference:+.3f} (margin {margin}), the interquartile ranges by {spread:+.0%}
(margin {spread_margin:.0%}).
For ABC/2 the simulated hematomas are about as irregular as real ones; that says nothing about segmenting either.
{several_phantom:.0%} of the simulated and {several_real:.0%} of the real masks have several components. Simulated
volumes follow Wang et al. 2019 (here mean {volume_phantom:.1f}, SD {sd_phantom:.1f} ml) and are larger than those of
the real masks (mean {volume_real:.1f}, SD {sd_real:.1f} ml). The median of outlined over true volume is {outlined:.3f}.
"""


def main() -> None:
    if not MASKS.is_dir():
        sys.exit("the real masks are not at ../shared/data/masks/hemseg: nothing written")
    indices: list[int] = []
    index = 0
    while len(indices) < N_WANTED:
        if hemorrhage_type(SEED, index) == "parenchymal":
            indices.append(index)
        index += 1
    phantoms = pd.DataFrame(joblib.Parallel(n_jobs=2)(joblib.delayed(measured_phantom)(i) for i in indices))
    found = pd.concat([summary(phantoms, "simulated"), summary(measured_real(), "real")], ignore_index=True)
    target = ROOT / "reports" / "checks" / "phantom_abc2.csv"
    write_plain(found, target)
    both = found[found["stratum"] == "all"].set_index("source")
    phantom, real = both.loc["simulated"], both.loc["real"]
    difference = phantom["ratio_median"] - real["ratio_median"]
    spread = phantom["ratio_iqr"] / real["ratio_iqr"] - 1
    columns = {"n": "n", "several": "several_components", "volume": "volume_mean_ml", "sd": "volume_sd_ml"}
    values = {}
    for source, row in (("phantom", phantom), ("real", real)):
        values |= {f"{name}_{source}": row[column] for name, column in columns.items()}
        values[source] = "{ratio_median:.3f} (quartiles {ratio_q25:.3f} and {ratio_q75:.3f})".format(**row)
    text = MEANING.format(
        **values,
        seed=SEED,
        size=SIZE,
        difference=difference,
        margin=MEDIAN_MARGIN,
        spread=spread,
        spread_margin=IQR_MARGIN,
        outlined=(phantoms["volume_ml"] / phantoms["true_ml"]).median(),
    )
    target.with_suffix(".md").write_text(text)
    print(found.round(3).to_string(index=False))
    print(text)
    if abs(difference) > MEDIAN_MARGIN or abs(spread) > IQR_MARGIN:
        sys.exit("the simulated hematomas lie outside the margins")


if __name__ == "__main__":
    main()
