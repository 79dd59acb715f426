"""Several runs on the cases that they share: agreement side by side, paired differences with intervals."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from ich import tables
from ich.bland_altman import bland_altman
from ich.by_label import typed, volumes_of
from ich.comparison import holm, signed_rank, volume_group
from ich.linked import mean_per_patient, owners
from ich.pairs import FEWEST, flat, only, require_columns
from ich.resampling import NOT_NEGATIVE, SHARE, bootstrap_mean
from ich.run_folder import unlike_names
from ich.shared_statistics import LIMITS
from ich.strata import strata_of

READERS = {"network_ml": "network", "second_reader_ml": "second_reader"}  # volumes that have a Dice
BLOOD = "blood"  # what all labels together are called in metrics.csv
SAME_ML, SAME_SHARE = 1e-3, 1e-5  # reference volumes further apart are not the same outline


@dataclass(frozen=True)
class Run:
    """What a comparison reads of one finished run."""

    name: str  # unlike that of every other run
    manifest: dict
    measurements: pd.DataFrame  # of `label`
    metrics: pd.DataFrame | None  # of `label`; None for a run of masks alone
    simulated: bool
    cohort: pd.DataFrame | None = None  # None for a run of a table of volumes
    label: str = BLOOD  # which blood counts: all, or one label
    agreed_on: str = BLOOD  # which blood the run's own 04 compared


@dataclass(frozen=True)
class Comparison:
    """Every table of a comparison, on the cases that all runs share."""

    method: str
    runs: tuple[Run, ...]  # all of one label
    cases: pd.DataFrame  # case_id, patient_id, hemorrhage_type, reference_ml, then volume and Dice of each run
    agreement: pd.DataFrame
    dice: pd.DataFrame
    paired: pd.DataFrame
    settings: pd.DataFrame

    @property
    def label(self) -> str:
        """Which blood counts, in every run."""
        return self.runs[0].label

    @property
    def simulated(self) -> bool:
        """Whether any of the runs is on simulated data."""
        return any(run.simulated for run in self.runs)

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by file name without ending."""
        return {name: getattr(self, name) for name in ("cases", "agreement", "dice", "paired", "settings")}


def read_run(folder: Path, name: str = "", label: str = BLOOD) -> Run:
    """Read a finished run.

    Parameters
    ----------
    label : whose volumes and overlaps to read: of all blood, or of one label, then of cases whose reference has it.

    Raises
    ------
    ValueError, FileNotFoundError
        No run folder, an unfinished run, or a run without volumes (of that label).
    """
    if not (folder / "settings.yaml").is_file():
        raise FileNotFoundError(f"{folder.name}: no run folder, it holds no settings.yaml")
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"run {folder.name} is unfinished: it has no manifest.json; finish it with --resume")
    if not (folder / "tables" / "measurements.csv").is_file():
        raise ValueError(f"run {folder.name} has no tables/measurements.csv, so no volumes to compare")
    path, cohort_path = folder / "tables" / "metrics.csv", folder / "tables" / "cohort.csv"
    metrics = tables.read(path) if path.is_file() else None
    if metrics is not None:
        metrics = typed(metrics)
        metrics = metrics[metrics["label"] == label]
    cohort = tables.read(cohort_path) if cohort_path.is_file() else None
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return Run(
        name or folder.name,
        manifest,
        tables.read(folder / "tables" / "measurements.csv")
        if label == BLOOD
        else _of_label(folder.name, metrics, label),
        metrics,
        cohort is not None and bool(cohort["simulated"].any()),
        cohort,
        label,
        manifest["notebooks"].get("04_agreement", {}).get("parameters", {}).get("volume", BLOOD),
    )


def _of_label(run: str, metrics: pd.DataFrame | None, label: str) -> pd.DataFrame:
    if metrics is None:
        raise ValueError(f"run {run} has no tables/metrics.csv, so no volumes of single labels")
    found = volumes_of(metrics, label)
    if found.empty:
        raise ValueError(f"run {run}: no reference outline has the label {label}")
    return found


def read_runs(folders: list[Path], label: str = BLOOD) -> list[Run]:
    """Read two or more runs; folders of the same name are numbered."""
    if len(folders) < 2:
        raise ValueError(f"{len(folders)} run given, wanted at least two to compare")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("a run is given twice; it differs from itself by nothing")
    names = unlike_names(folders)
    return [read_run(folder.resolve(), name, label) for folder, name in zip(folders, names, strict=True)]


def shared_cases(runs: list[Run], method: str = "network_ml") -> pd.DataFrame:
    """Cases with a volume in every run, with each run's volume as `<run>: ml` and its Dice as `<run>: Dice`.

    Raises
    ------
    ValueError
        A run has no such volumes; no case is shared; in another run a case has another reference volume, or cases
        of one patient are of several.
    """
    for run in runs:
        if method not in run.measurements or run.measurements[method].isna().all():
            known = [
                str(c) for c, column in run.measurements.items() if str(c).endswith("_ml") and column.notna().any()
            ]
            raise ValueError(f"run {run.name} has no {method}; its volumes are {', '.join(known)}")
    first = runs[0].measurements.set_index("case_id")
    measured = [measured_cases(run, method) for run in runs]
    shared = [case for case in first.index if all(case in cases for cases in measured)]
    if not shared:
        counts = "; ".join(
            f"{runs[a].name} and {runs[b].name} share {len(measured[a] & measured[b])}"
            for a, b in combinations(range(len(runs)), 2)
        )
        raise ValueError(f"no case was measured in every run ({counts}); paired differences need the same cases")
    found = first.loc[shared, ["patient_id", "hemorrhage_type", "reference_ml"]]
    for run in runs:
        own = run.measurements.set_index("case_id").loc[shared]
        apart = (own["reference_ml"] - found["reference_ml"]).abs() > SAME_ML + SAME_SHARE * found["reference_ml"]
        if apart.any():
            case = str(apart.idxmax())
            here, there = found["reference_ml"].loc[case], own["reference_ml"].loc[case]
            raise ValueError(
                f"case {case}: the reference volume is {here:.3f} ml in {runs[0].name} and {there:.3f} ml in "
                f"{run.name} ({int(apart.sum())} of {len(shared)} shared cases differ); wanted runs against the same "
                "outlines"
            )
        _check_patients(found["patient_id"], own["patient_id"], runs[0].name, run.name)
        found[f"{run.name}: ml"] = own[method]
    if method in READERS and all(len(_dice(run, READERS[method])) for run in runs):
        for run in runs:
            found[f"{run.name}: Dice"] = _dice(run, READERS[method]).reindex(found.index)
    return found.rename_axis("case_id").reset_index()


def measured_cases(run: Run, method: str) -> set[str]:
    """Cases of which the run has a volume: a row alone may be that of a missing or unusable prediction."""
    return set(run.measurements.loc[run.measurements[method].notna(), "case_id"])


def _check_patients(first: pd.Series, own: pd.Series, first_name: str, own_name: str) -> None:
    """Runs may name patients by other pseudonyms, but cases of one patient must be so in both.

    Raises
    ------
    ValueError : names two cases of one patient that are of two patients in the other run.
    """
    for kept, other, where in ((first, own, own_name), (own, first, first_name)):
        for patient, cases in kept.groupby(kept).groups.items():
            if len(set(other.loc[cases])) > 1:
                named = ", ".join(map(str, cases[:3]))
                raise ValueError(
                    f"cases {named} are of one patient ({patient}) in one run and of several in {where}; "
                    "intervals are over patients, so the runs must group cases alike"
                )


def _dice(run: Run, reader: str) -> pd.Series:
    """Dice by case; empty for a run without masks of `reader`."""
    if run.metrics is None:
        return pd.Series(dtype=float)
    return run.metrics[run.metrics["reader"] == reader].set_index("case_id")["dice"]


def compare(
    runs: list[Run], method: str = "network_ml", *, by: Sequence[str] = (), n_resamples: int = 2000, seed: int = 1
) -> Comparison:
    """Agreement of each run with the reference and paired differences of every two runs.

    Volumes of all blood are compared in cases that are parenchymal or of no stated type, as in the runs themselves;
    Dice, and volumes of one label, in all that have it. `paired` has a row for each measure and group (hemorrhage type
    for Dice, reference volume for errors) with the p value of Wilcoxon's signed-rank test of the patients' mean
    differences, and Holm's correction of it over the pairs of runs; of volumes the limits of agreement too.

    Parameters
    ----------
    by : columns of the first run's cohort to tell paired differences apart by, too, as `ich.strata` does.

    Raises
    ------
    ValueError : as `shared_cases`; the cohort has no such column.
    """
    cases = shared_cases(runs, method)
    if by:
        known = runs[0].cohort if runs[0].cohort is not None else cases[["case_id"]]
        require_columns(known, *by, purpose=f" in cohort.csv of {runs[0].name} to tell differences apart by")
        cases = cases.merge(known[["case_id", *(name for name in by if name not in cases)]], on="case_id")
    names = [run.name for run in runs]
    bootstrap = {"seed": seed, "n_resamples": n_resamples}
    volumes = tables.for_abc2(cases) if runs[0].label == BLOOD else cases
    agreed = pd.DataFrame([{"run": name} | _agreement(volumes, f"{name}: ml", bootstrap) for name in names])
    scored = f"{names[0]}: Dice" in cases
    groups = _groups(cases) if scored else {}
    dice = pd.DataFrame(
        [
            {"run": name, "hemorrhage_type": group}
            | bootstrap_mean(part[f"{name}: Dice"], part["patient_id"], **bootstrap, within=SHARE).row()
            for group, part in groups.items()
            for name in names
        ]
    )
    named = volume_group(volumes["reference_ml"])
    sizes = {"all": volumes} | {f"{name} ml": volumes[named == name] for name in named.cat.categories}
    sizes = {name: part for name, part in sizes.items() if len(part)} | dict(strata_of(volumes, by))
    paired_groups = groups | dict(strata_of(cases, by)) if scored else {}
    rows = []
    for first, second in combinations(names, 2):
        for group, part in paired_groups.items():
            scores = part[f"{first}: Dice"], part[f"{second}: Dice"]
            head = {"measure": "Dice", "group": group, "first": first, "second": second}
            rows.append(head | _paired(scores[0], scores[1], part["patient_id"], bootstrap))
        head = {"first": first, "second": second}
        for group, part in sizes.items():
            pair = [(part[f"{name}: ml"] - part["reference_ml"]).abs() for name in (first, second)]
            found = _paired(pair[0], pair[1], part["patient_id"], bootstrap)
            rows.append({"measure": "absolute error, ml", "group": group} | head | found)
        pair = [volumes[f"{name}: ml"] for name in (first, second)]
        found = _paired(pair[0], pair[1], volumes["patient_id"], bootstrap)
        if len(volumes) >= FEWEST:
            found |= only(bland_altman(*pair, patients=volumes["patient_id"]), "loa_lower", "loa_upper")
        rows.append({"measure": "volume, ml", "group": "all"} | head | found)
    paired = pd.DataFrame(rows)
    paired["p_holm"] = paired.groupby(["measure", "group"])["p"].transform(holm)
    return Comparison(method, tuple(runs), cases, agreed, dice, paired, differing_settings(runs))


def differing_settings(runs: list[Run]) -> pd.DataFrame:
    """Parameters that are not the same in all runs: parameter, then a column for each run."""
    values: dict[str, list] = {}
    for place, run in enumerate(runs):
        for notebook, record in run.manifest["notebooks"].items():
            for name, value in record["parameters"].items():
                values.setdefault(f"{notebook}.{name}", ["–"] * len(runs))[place] = "not set" if value == "" else value
    rows = [
        {"parameter": name} | {run.name: str(value) for run, value in zip(runs, found, strict=True)}
        for name, found in values.items()
        if len({str(value) for value in found}) > 1 and not name.endswith((".run_dir", ".jobs"))
    ]
    return pd.DataFrame(rows, columns=["parameter", *(run.name for run in runs)])


def _groups(cases: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All cases, then those of each hemorrhage type."""
    named = cases["hemorrhage_type"].fillna("not stated")
    kinds = [kind for kind in (*tables.HEMORRHAGE_TYPES, "not stated") if (named == kind).any()]
    return {"all": cases} | ({kind: cases[named == kind] for kind in kinds} if len(kinds) > 1 else {})


def _agreement(cases: pd.DataFrame, column: str, bootstrap: dict) -> dict:
    error = (cases[column] - cases["reference_ml"]).abs()
    mean = bootstrap_mean(error, cases["patient_id"], **bootstrap, within=NOT_NEGATIVE)
    row: dict = {"n": len(cases)}
    if len(cases) >= FEWEST:
        row |= only(bland_altman(cases[column], cases["reference_ml"], patients=cases["patient_id"]), *LIMITS)
    else:
        row |= {name: (math.nan, math.nan) if name.endswith("_ci") else math.nan for name in LIMITS}
    return flat(row | {"mean_absolute_error": mean.mean, "mean_absolute_error_ci": mean.mean_ci})


def _paired(of_first: pd.Series, of_second: pd.Series, patients: pd.Series, bootstrap: dict) -> dict:
    """Mean difference first - second on the cases that have both, with its interval and test over patients."""
    mean = bootstrap_mean(of_first - of_second, patients, **bootstrap)
    both = of_first.notna() & of_second.notna()
    gaps = mean_per_patient((of_first - of_second)[both].to_numpy(), owners(patients[both], int(both.sum())))
    return {
        "n": mean.n,
        "n_patients": mean.n_patients,
        "n_missing": mean.n_missing,
        "first_mean": of_first[both].mean(),
        "second_mean": of_second[both].mean(),
        "difference": mean.mean,
        "difference_ci_low": mean.mean_ci[0],
        "difference_ci_high": mean.mean_ci[1],
        "sd": mean.sd,
        "p": signed_rank(gaps)[0] if gaps.size else math.nan,
    }
