"""Parameters of a study that need or exclude one another, and those with a fixed set of values."""

import re
from collections.abc import Mapping

DATA = ("source", "masks", "manifest")  # where cases come from; none of them: the embedded cohort
VOLUMES = ("blood", "parenchymal")  # what of a mask 04 compares, with ABC/2
ELSEWHERE = "; `ich study volumes` compares tables/volumes_ventricular.csv and the like, which 03 writes"
NEEDS = {"source": "root", "root": "source", "images": "masks", "about": "masks"}


def check_choices(values: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse what would be ignored or found out after every scan has been read.

    Parameters
    ----------
    values : parameters of each notebook.

    Raises
    ------
    ValueError
        Names the parameter, its value and what was wanted.
    """
    from ich.quality import checks, limits_from
    from ich.sources import KINDS
    from ich.splits import RULES
    from ich.tables import LABELS

    allowed = {"source": ("", *KINDS), "split_rule": RULES, "volume": VOLUMES}
    for chosen in values.values():
        for name, wanted in allowed.items():
            if name in chosen and chosen[name] not in wanted:
                more = ELSEWHERE if name == "volume" and chosen[name] in LABELS else ""
                raise ValueError(f"{name}={chosen[name]}: wanted one of {', '.join(filter(None, wanted))}{more}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(chosen.get("device", "auto"))):
            raise ValueError(f"device={chosen['device']}: wanted auto, cpu, cuda, or cuda:1 for the second GPU")
        if chosen.get("jobs", -1) == 0:
            raise ValueError("jobs=0: wanted -1 for one per core, or 1 or more")
        for name in ("margin_ml", "margin_percent"):
            if name in chosen and not float(str(chosen[name])) > 0:
                raise ValueError(f"{name}={chosen[name]}: wanted a positive number")
    first = values.get("01_cohort", {})
    for name, other in NEEDS.items():
        if first.get(name) and not first.get(other):
            raise ValueError(f"{name}={first[name]} is given without {other}, and would be ignored: give both")
    if "02_training" in values and first.get("masks") and not first.get("images"):
        raise ValueError(
            f"masks={first['masks']} is given without images, and 02_training needs images (scans); for masks alone: "
            "ich study masks"
        )
    tested = values.get("03_test_set", {})
    if tested.get("model_from"):
        if tested.get("predictions") or "02_training" in values:
            other = "predictions" if tested.get("predictions") else "02_training, which trains a network of its own"
            raise ValueError(f"model_from={tested['model_from']} is given beside {other}: a run tests one of both")
        if first.get("masks") and not first.get("images"):
            raise ValueError(f"masks={first['masks']} is given without images, and a network needs images (scans)")
    given = [name for name in DATA if first.get(name)]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given: cases come from one of {', '.join(DATA)}")
    flags = str(first.get("exclude_flagged", "default"))
    if flags != "default":
        checks(tuple(filter(None, flags.split(","))))
    limits_from(str(first.get("quality_limits", "")))
