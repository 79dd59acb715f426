"""The scans that a network was trained and chosen on, so that no later study tests it on them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ich.splits import open_split

DIGITS = 16  # of the SHA-256 of pixels: a million scans and another million share one by chance once in 18 million
TAUGHT, CHOSEN = "train", "validation"


def scans_seen(cases: Mapping[str, pd.DataFrame], before: Iterable[dict] = ()) -> dict[str, str]:
    """What a card tells of its network's scans: digests of their pixels, by what they were used for.

    Parameters
    ----------
    cases : rows of the cohort table, by split. before : cards of the networks that it comes from.
    """
    cards = [card.get("scans_seen", {}) for card in before]
    seen = {}
    for use in (TAUGHT, CHOSEN):
        now = {str(digest)[:DIGITS] for digest in cases[use]["content"]} if use in cases else set()
        seen[use] = " ".join(sorted(now.union(*(card.get(use, "").split() for card in cards))))
    return seen


def check_unseen(card: dict, run: Path, name: str) -> None:
    """Refuse a network for a run whose split keeps from it what it knows; `name` is what a user calls it.

    Another scan of a patient it knows is not noticed: pseudonyms of two studies have nothing in common.

    Raises
    ------
    ValueError
        It was trained or chosen on a scan that is in the test split, or trained on one of the validation split.
    """
    seen = {use: set(text.split()) for use, text in card.get("scans_seen", {}).items()}
    for split, uses in {"test": (TAUGHT, CHOSEN), "validation": (TAUGHT,)}.items():
        known = set().union(*(seen.get(use, set()) for use in uses))
        if not known:
            continue
        cases = open_split(run, split)
        met = cases["case_id"][cases["content"].str[:DIGITS].isin(known)]
        if len(met):
            raise ValueError(
                f"{name}: its network has seen {len(met)} of the {len(cases)} {split} cases in an earlier training, "
                f"such as {met.min()}, so that its results here would mean nothing: take another network, or give the "
                "cases their earlier splits (column `split` of a manifest)"
            )
