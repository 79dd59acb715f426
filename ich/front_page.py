"""A run's first page: question, answer, flow, Table 1, results beside the paper's, three cases, limits, and the way on.

What a study does not have is left out, and the page says why.
"""

import json
from datetime import datetime
from pathlib import Path

import nbformat
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ich import tables
from ich.checklists import ANSWERED, CHECKLISTS, OPEN, PARTLY
from ich.cohort import flow
from ich.html import IMAGES, TEMPLATES, data_uri, page, provenance, report_links, use_notice
from ich.limitations import limits_of
from ich.marks import calipers, mark
from ich.print_tables import (
    beside_paper,
    dice_rows,
    interval,
    measured_rows,
    method_name,
    of_a_table,
    print_tables,
    quoted_said,
    read_rows,
)
from ich.three_cases import RANKS
from ich.wording import enough_digits, number

FIRST = ("network_ml", "abc2_ml")  # the methods of the answer
SECTIONS = {  # what a page may lack, the notebook that would have made it
    "Table 1": "01_cohort",
    "Overlap by type": "03_test_set",
    "Volume error by group": "04_agreement",
    "Agreement": "04_agreement",
    "Three cases": "03_test_set",
}


def render(template: str, **values) -> str:
    """Text of one of the templates; every value is escaped, an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    return environment.get_template(template).render(values)


def index_html(run: Path, manifest: dict, *, pdf: bool = False) -> str:
    """The page a head of department reads.

    Parameters
    ----------
    manifest : of the run, finished or about to be.
    pdf : whether html/report.pdf holds the same page.
    """
    said = _json(run / "tables" / "answer.json")
    simulated = is_simulated(run)
    title = manifest["title"]
    if simulated and "simulated" not in title.lower():
        title = f"{title} (simulated)"
    own = own_name(manifest)
    shown = print_tables(run, simulated, own)
    cases = [found for rank in RANKS if (found := _figure(run, f"case_{rank}"))]
    agreed = {row["method"]: row for row in read_rows(run, "agreement") if row["stratum"] == "all"}
    values = {
        "title": title,
        "simulated": simulated,
        "eyebrow": _eyebrow(manifest),
        "use": use_notice(_json(run / "model" / "settings.json") if own == "network" else {}),
        "question": _question(run, agreed, own) or said.get("question", ""),
        "answer": _answer(run, agreed, simulated, own) or said.get("answer", ""),
        "paired": _paired(run, own),
        "quoted": quoted_said({method_name(name, own): row for name, row in _told(run, agreed).items()}),
        "margin": " ".join(text for method, text in said.get("margin", {}).items() if method in agreed),
        "calipers": calipers([row | {"name": method_name(m, own)} for m, row in agreed.items()], _margin(manifest)),
        "flow": _flow(run),
        "tables": {name: shown.get(name) for name in ("table1", "dice_by_type", "error_by_group", "agreement")},
        "beside_paper": beside_paper(read_rows(run, "error_by_group")),
        "marks": {"dice_by_type": _dice_marks(run), "error_by_group": _error_marks(run)},
        "figures": {"bland_altman": _figure(run, "bland_altman")},
        "cases": cases,
        "limits": limits_of(run, said, own),
        "left_out": _left_out(manifest, shown, bool(agreed), cases),
        "more": _more(run, manifest, pdf),
        "provenance": Markup(provenance(manifest)),
    }
    links = report_links(manifest["notebooks"])
    return page(title, render("front.html.j2", **values), links, "index.html", front=True)


def is_simulated(run: Path) -> bool:
    """Whether the run says so in its answer, or any case of its cohort is simulated."""
    if _json(run / "tables" / "answer.json").get("simulated", False):
        return True
    path = run / "tables" / "cohort.csv"
    if not path.is_file():
        return False
    cohort = pd.read_csv(path, dtype="str")
    return "simulated" in cohort and bool((cohort["simulated"] == "True").any())


def checklists_html(run: Path, manifest: dict) -> str:
    """Every item of the reporting checklists, with a link to the section that answers it."""
    items = pd.read_csv(run / "tables" / "checklists.csv", dtype="str", keep_default_na=False)
    lists = []
    for checklist in CHECKLISTS:
        rows = items[items["checklist"] == checklist.name]
        entry = {"key": checklist.key, "name": checklist.name, "source": checklist.source}
        lists.append(entry | {"counts": _counts(rows["status"]), "rows": rows.to_dict("records")})
    values = {"eyebrow": _eyebrow(manifest), "title": "Reporting checklists", "simulated": is_simulated(run)}
    links = report_links(manifest["notebooks"])
    body = render("checklists.html.j2", lists=lists, **values)
    return page("Reporting checklists", body, links, front=True)


def _counts(statuses: pd.Series) -> str:
    """How many items are answered, in words."""
    found = statuses.value_counts()
    parts = [
        f"{found.get(status, 0)} {text}"
        for status, text in ((ANSWERED, "answered"), (PARTLY, "partly"), (OPEN, "open"))
    ]
    return f"{', '.join(parts)} of {len(statuses)} items"


def own_name(manifest: dict) -> str:
    """What this run calls the masks it tests: its network's, or predictions that were made elsewhere."""
    given = manifest["notebooks"].get("03_test_set", {}).get("parameters", {}).get("predictions")
    return "predictions" if given else "network"


def _eyebrow(manifest: dict) -> str:
    ended = datetime.fromisoformat(manifest["ended"])
    return f"Study report · run {manifest['run']} · {ended.day} {ended:%B %Y}"


def _question(run: Path, agreed: dict, own: str) -> str:
    if of_a_table(run):
        return ""  # 07 asks about its own methods
    if "network_ml" in agreed:
        return f"How well do the volumes of the {own} and of ABC/2 agree with the reference volume?"
    if agreed:
        return "How well does ABC/2 agree with the reference volume?"
    if (run / "tables" / "cohort.csv").is_file():
        return "Which cases can be studied, and are the splits comparable?"
    return ""


def _answer(run: Path, agreed: dict, simulated: bool, own: str) -> str:
    """One sentence with numbers and intervals, from agreement.csv; of the cohort alone where there is no result."""
    kind = "simulated " if simulated else ""
    told = _told(run, agreed)
    if not told:
        return _cohort_answer(run, kind)
    rows = list(told.values())
    unmeasured = [row for row in rows if not row["loa_lower"]]
    if unmeasured:
        return f"{rows[0]['n']} {kind}cases are too few for limits of agreement: {unmeasured[0]['note']}."
    unlike = len({row["n"] for row in rows}) > 1  # some cases lack one of the volumes
    parts = [
        f"{name} by {_signed(row['bias'], _digits(row))} ml on average (95 % interval "
        f"{number(row['bias_ci_low'], _digits(row))} to {number(row['bias_ci_high'], _digits(row))}), 95 % limits of "
        f"agreement {number(row['loa_lower'], 1)} to {number(row['loa_upper'], 1)} ml"
        + (f" (n = {row['n']})" if unlike else "")
        for method, row in told.items()
        for name in [f"the {own}'s" if method == "network_ml" and own == "network" else _possessive(method, own)]
    ]
    most = max(int(row["n"]) for row in rows)
    return f"In {most} {kind}{_cases(run)}, volume differs from the reference: {'; '.join(parts)}."


def _told(run: Path, agreed: dict[str, dict]) -> dict[str, dict]:
    """Rows of agreement.csv that the answer tells: network and ABC/2 of a run's cases, every method of a table (07)."""
    return {method: row for method, row in agreed.items() if of_a_table(run) or method in FIRST}


def _possessive(method: str, own: str) -> str:
    name = method_name(method, own)
    return f"that of the {name}" if name.endswith("s") else f"{name}'s"


def _cases(run: Path) -> str:
    """What the cases of the agreement are: parenchymal hematomas, or cases of which some have no stated type."""
    types = [row["hemorrhage_type"] for row in measured_rows(run)]
    if types and "parenchymal" in types and "" not in types:
        return "parenchymal hematomas"
    return "cases"


def _digits(row: dict) -> int:
    return enough_digits((row["bias_ci_low"], row["bias_ci_high"]), 1)


def _signed(text: str, digits: int) -> str:
    shown = number(text, digits)
    return shown if shown.startswith("\N{MINUS SIGN}") or float(text) == 0 else f"+{shown}"


def _cohort_answer(run: Path, kind: str) -> str:
    path = run / "tables" / "cohort.csv"
    if not path.is_file():
        return ""
    cohort = tables.read(path)
    used = cohort[cohort["included"]]
    volume = used["reference_volume_ml"].dropna()
    said = f"{len(used)} of {len(cohort)} {kind}cases, of {used['patient_id'].nunique()} patients, can be studied"
    if volume.empty:
        return f"{said}."
    return (
        f"{said}; their reference volume is {volume.median():.1f} ml in the median (quartiles "
        f"{volume.quantile(0.25):.1f} to {volume.quantile(0.75):.1f}, range {volume.min():.1f} to {volume.max():.1f})."
    )


def _paired(run: Path, own: str) -> str:
    """Which of two methods errs less, on the same cases."""
    row = next((row for row in read_rows(run, "paired_errors") if row["group"] == "all"), None)
    if row is None or not row["shift_ml"]:
        return ""
    first, second = method_name(row["first"], own), method_name(row["second"], own)
    gap = float(row["first_mean_ml"]) - float(row["second_mean_ml"])
    several = row["n_patients"] != row["n"]
    cases = f"{row['n']} cases of {row['n_patients']} patients" if several else f"{row['n']} cases"
    return (
        f"On the same {cases} the absolute error is {number(row['first_mean_ml'], 1)} ml ({first}) and "
        f"{number(row['second_mean_ml'], 1)} ml ({second}) on average, a difference ({first} − {second}) of "
        f"{number(gap, 1)} ml; the Hodges-Lehmann shift, the median of the averages of any two differences of "
        f"{'patients' if several else 'cases'}{' (95 % interval)' if row['shift_ci_low'] else ''}, is "
        f"{interval(row, 'shift_ml', 'shift_ci_low', 'shift_ci_high', 1)} ml."
    )


def _margin(manifest: dict) -> float | None:
    given = (record.get("parameters", {}).get("margin_ml") for record in manifest["notebooks"].values())
    return next((margin for margin in given if margin is not None), None)


def _flow(run: Path) -> dict | None:
    folder = run / "tables"
    if not (folder / "cohort.csv").is_file() or not (folder / "splits.csv").is_file():
        return None
    stages = flow(tables.read(folder / "cohort.csv"), tables.read(folder / "splits.csv")).to_dict("records")
    rows = [
        {"n": row["n"], "name": row["stage"], "excluded": [text for text in row["excluded"].split("\n") if text]}
        for row in stages
    ]
    main = [row for row, stage in zip(rows, stages, strict=True) if not stage["branch"]]
    branches = [row for row, stage in zip(rows, stages, strict=True) if stage["branch"]]
    unused = bool(measured_rows(run)) and not (folder / "metrics.csv").is_file()
    compared = next((row for row in read_rows(run, "agreement") if row["stratum"] == "all"), None)
    alone = (folder / "measurements_parenchymal.csv").is_file()
    kind = "have parenchymal blood, of which alone" if alone else "are parenchymal or of no stated type"
    note = (
        f"Volumes are compared in {compared['n']} of these {'cases' if unused else 'test cases'}, of "
        f"{compared['n_patients']} patients: those that {kind}."
        if compared
        else ""
    )
    return {"stages": main, "branches": [] if unused else branches, "note": note}


def _dice_marks(run: Path) -> dict | None:
    rows = [row for row in dice_rows(run) if row["mean"]]
    if not rows:
        return None
    drawn = [
        mark(row["mean"], row["mean_ci_low"], row["mean_ci_high"], row["published_dice"], 1.0) if row["mean"] else None
        for row in dice_rows(run)
    ]
    return {"heading": "0 to 1; ◇ Wang et al. 2019", "rows": drawn}


def _error_marks(run: Path) -> dict | None:
    rows = read_rows(run, "error_by_group")
    known = [
        float(row[key]) for row in rows for key in ("mean_ml", "mean_ci_high", "published_mean_ml") if row.get(key)
    ]
    if not known or max(known) <= 0:
        return None
    top = max(known)
    drawn = [
        mark(row["mean_ml"], row.get("mean_ci_low"), row.get("mean_ci_high"), row.get("published_mean_ml", ""), top)
        if row["mean_ml"]
        else None
        for row in rows
    ]
    return {"heading": f"0 to {top:.0f} ml{'; ◇ Wang et al. 2019' if beside_paper(rows) else ''}", "rows": drawn}


def _left_out(manifest: dict, shown: dict, agreed: bool, cases: list) -> list[tuple[str, str]]:
    present = {
        "Table 1": "table1" in shown,
        "Overlap by type": "dice_by_type" in shown,
        "Volume error by group": "error_by_group" in shown,
        "Agreement": agreed,
        "Three cases": bool(cases),
    }
    ran, left = manifest["notebooks"], manifest["left_out"]
    found = []
    for section, notebook in SECTIONS.items():
        if present[section]:
            continue
        if notebook in left:
            why = left[notebook]
        elif notebook in ran:
            why = "its masks are no longer there" if section == "Three cases" else f"{notebook} wrote no such table"
        else:
            why = f"{notebook} is no part of this study"
        found.append((section, why))
    other = [(name, why) for name, why in left.items() if name not in SECTIONS.values()]
    return found + other


def _more(run: Path, manifest: dict, pdf: bool) -> list[tuple[str, list[dict]]]:
    """Links to notebooks, tables and figures; documents of the page's four tables beside their CSV."""

    def link(text: str, address: str, after: str = "", also: list[tuple[str, str]] | None = None) -> dict:
        return {"text": text, "address": address, "after": after, "also": also or []}

    notebooks = [link(name.replace("_", " "), f"{name}.html", _asks(run, name)) for name in manifest["notebooks"]]
    listed = [link(name, f"../tables/{name}", f"{entry['rows']} rows") for name, entry in manifest["tables"].items()]
    stems = sorted({path.stem for path in (run / "figures").glob("*.svg")})
    figures = [
        link(stem.replace("_", " "), "", also=[(kind, f"../figures/{stem}.{kind}") for kind in ("svg", "png")])
        for stem in stems
    ]
    documents = [
        link(name.replace("_", " "), "", also=[(kind, f"../tables/{name}.{kind}") for kind in kinds])
        for name in ("table1", "dice_by_type", "error_by_group", "agreement")
        if (kinds := [kind for kind in ("tex", "docx") if (run / "tables" / f"{name}.{kind}").is_file()])
    ]
    if pdf:
        documents.insert(0, link("this page as PDF", "report.pdf"))
    items = run / "tables" / "checklists.csv"
    checked = pd.read_csv(items, dtype="str") if items.is_file() else pd.DataFrame({"checklist": [], "status": []})
    checklists = [
        link(
            each.name, f"checklists.html#{each.key}", _counts(checked.loc[checked["checklist"] == each.name, "status"])
        )
        for each in CHECKLISTS
        if (checked["checklist"] == each.name).any()
    ]
    parts = [
        ("Notebooks", notebooks),
        ("Checklists", checklists),
        ("For the manuscript", documents),
        ("Tables", listed),
        ("Figures", figures),
    ]
    return [(heading, links) for heading, links in parts if links]


def _asks(run: Path, name: str) -> str:
    """The question of an executed notebook, from its first cell."""
    path = run / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return ""
    cells = nbformat.read(path, as_version=4).cells
    text = " ".join(cells[0].source.split("\n\n")[1].split()) if cells and "\n\n" in cells[0].source else ""
    return text.removeprefix("**Question.** ") if text.startswith("**Question.**") else ""


def _figure(run: Path, name: str) -> dict | None:
    """A figure of the run as the page embeds it; those of simulated data carry the word in their file name."""
    stems = (name, f"{name}_simulated")
    files = [run / "figures" / f"{stem}{ending}" for ending in IMAGES for stem in stems]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return None
    entry = _json(run / "figures" / "captions.json").get(name, {})
    caption = entry.get("caption", name.replace("_", " "))
    size = ""
    if path.suffix == ".png":
        with Image.open(path) as image:
            size = f' width="{image.width}" height="{image.height}"'
    return {
        "source": data_uri(path.read_bytes(), IMAGES[path.suffix]),
        "alt": entry.get("alt", caption),
        "caption": caption,
        "size": Markup(size),
    }


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
