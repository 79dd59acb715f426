"""Reporting checklists: which item a run answers, where, and which only the authors can answer.

Items are named here in our own short words; the numbers are those of the sources:

CLAIM: Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024
Update. Radiology: Artificial Intelligence 2024;6(4):e240300.
GRRAS: Kottner J, Audigé L, Brorson S, et al. Guidelines for Reporting Reliability and Agreement Studies. J Clin
Epidemiol 2011;64(1):96-106.
Bland-Altman: Gerke O. Reporting standards for a Bland-Altman agreement analysis. Diagnostics 2020;10(5):334, table 2.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ich.checklist_items import AGREEMENT, BLAND_ALTMAN, CLAIM, GRRAS, OF_VOLUMES, VOLUMES, Item
from ich.splits import rule_of

AUTHORS = "to be stated by the authors"
UNSTATED = "patients are not stated: each scan counts as one"
ANSWERED, PARTLY, OPEN = "answered", "partly", "open"


@dataclass(frozen=True)
class Checklist:
    """A list of items with its source."""

    name: str
    key: str  # anchor on the page
    source: str
    items: tuple[Item, ...]


CHECKLISTS = (
    Checklist("CLAIM 2024", "claim", "Tejani et al., Radiology: Artificial Intelligence 2024;6:e240300", CLAIM),
    Checklist("GRRAS", "grras", "Kottner et al., J Clin Epidemiol 2011;64:96", GRRAS),
    Checklist("Bland-Altman", "bland-altman", "Gerke, Diagnostics 2020;10:334, table 2", BLAND_ALTMAN),
)


def anchor(heading: str) -> str:
    """What a heading is called in an address: Dice by type -> dice-by-type."""
    return re.sub(r"[^\w]+", "-", heading.strip().lower()).strip("-")


def claim_data(
    cohort: pd.DataFrame, splits: pd.DataFrame, rule: str, seed: int, *, patients_stated: bool = True
) -> pd.DataFrame:
    """CLAIM items on data, reference standard, partitions and cases, as far as the cohort answers them.

    Parameters
    ----------
    cohort, splits : tables of `ich.tables`.
    rule, seed : how cases were to be assigned to splits; splits that the data give are said to be given.
    patients_stated : whether the data say whose scan each is.

    Returns
    -------
    item, asks, answered, answer: `answered` is false where only the authors know all of it.
    """
    included = cohort[cohort["included"]]
    excluded = len(cohort) - len(included)
    source = ", ".join(cohort["source"].dropna().unique())
    second = int(included["second_mask"].notna().sum()) if "second_mask" in included else 0
    sites = included["site"].nunique() if "site" in included else 0
    notes = int(included["geometry_note"].notna().sum()) if "geometry_note" in included else 0
    tilted = int((included["tilt_deg"].abs() > 1).sum()) if "tilt_deg" in included else 0
    counts = splits["split"].value_counts()
    simulated = bool(included["simulated"].all()) if "simulated" in included else False
    own_names = included["source"].astype("str").str.match("folder |manifest ").any()
    anonymous = None if own_names else "keyed hashes or published ids; no header text leaves the scan"
    outline = "simulated outline" if simulated else "reference outline as given"
    dealt = "given by the data" if rule_of(cohort, rule) == "given" else f"rule {rule}, seed {seed}"
    answers = {
        7: f"{source}; {sites or 'no'} site{'' if sites == 1 else 's'} named",
        9: "volumes on the scan as acquired, none resampled; what the network sees is resampled as 02 says; "
        f"{tilted} with gantry tilt, {notes} with a note on their header",
        10: f"{excluded or 'none'} of {len(cohort)} excluded{', each with its reason' if excluded else ''}",
        11: "simulated scans: no patients" if simulated else anonymous,
        12: f"{excluded or 'no'} cases left out{' with a reason' if excluded else ''}; none filled in",
        14: f"volume of the {outline}, in slices along their normal",
        18: f"second {'simulated ' if simulated else ''}outline of {second} cases, compared in 03 and 04"
        if second
        else None,
        19: f"{dealt}: " + ", ".join(f"{counts[name]} {name}" for name in counts.index),
        20: "by patient; no identical scan in two splits" if patients_stated else UNSTATED,
        35: "figure above",
        36: "characteristics by split above, as far as the data say age and sex",
    }
    # Of what the run answers elsewhere in part, the part is told.
    rows = [
        (item, answers.get(item.number) or (item.answer if item.partly else None))
        for item in CLAIM
        if 7 <= item.number <= 21 or item.number in (35, 36)
    ]
    return pd.DataFrame(
        [
            {
                "item": f"CLAIM {item.number}",
                "asks": item.asks,
                "answered": bool(answers.get(item.number)) and answer != UNSTATED,
                "answer": answer or AUTHORS,
            }
            for item, answer in rows
        ]
    )


def answered_items(run: Path, notebooks: list[str]) -> pd.DataFrame:
    """Every item of every checklist with what this run says to it.

    Parameters
    ----------
    notebooks : those that the run executed; a section of another one answers nothing.

    Returns
    -------
    checklist, item, asks, status (answered, partly, open), answer, place: the address of the section from the run's
    html folder, empty for an open item.
    """
    found = []
    data = _claim_answers(run)
    for checklist in CHECKLISTS:
        for item in checklist.items:
            status, answer, place = _answer(item, run, notebooks)
            if checklist.key == "claim" and status != OPEN and item.asks in data:
                answered, text = data[item.asks]
                if answered or text != AUTHORS:
                    status, answer = status if answered else PARTLY, text
                elif status == ANSWERED:
                    status, answer, place = OPEN, AUTHORS, ""
            found.append(
                {
                    "checklist": checklist.name,
                    "item": item.number,
                    "asks": item.asks,
                    "status": status,
                    "answer": answer,
                    "place": place,
                }
            )
    return pd.DataFrame(found)


def _answer(item: Item, run: Path, notebooks: list[str]) -> tuple[str, str, str]:
    """Status, answer and place of one item, without what the cohort itself says."""
    if not item.answer:
        return OPEN, AUTHORS, ""
    page = VOLUMES if item.page == AGREEMENT and VOLUMES in notebooks and item.heading in OF_VOLUMES else item.page
    lacking = [name for name in item.needs if not (run / "tables" / f"{name}.csv").is_file()]
    if lacking or (page != "index" and page not in notebooks):
        return OPEN, f"not in this run; {AUTHORS}", ""
    return PARTLY if item.partly else ANSWERED, item.answer, f"{page}.html#{anchor(item.heading)}"


def _claim_answers(run: Path) -> dict[str, tuple[bool, str]]:
    """What 01 wrote to claim_data.csv: what an item asks -> whether it is answered, and the answer."""
    path = run / "tables" / "claim_data.csv"
    if not path.is_file():
        return {}
    rows = pd.read_csv(path, dtype="str", keep_default_na=False).to_dict("records")
    told = {row["asks"]: (row["answered"] == "True", row["answer"]) for row in rows}
    return {asks: found for asks, found in told.items() if not found[1].endswith("above")}
