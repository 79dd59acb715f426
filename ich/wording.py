"""Sentences of the notebooks whose truth depends on the data."""

from collections.abc import Mapping


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
        f"{panel['within_5_ml']:.0%} of cases within 5 ml)"
        for method, panel in panels.items()
    ]
    cases = " ".join(filter(None, (str(max(counts)), kind, "cases")))
    return f"In {cases} the volume differs from the reference by {' and '.join(parts)}."
