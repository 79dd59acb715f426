"""Whether a run folder, or its archive, still holds what its manifest says."""

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from ich import claims, tables
from ich.archive import METADATA, crate_hashes, is_inside, unpack
from ich.provenance import as_committed, describe_figures, describe_pages, describe_tables, file_hash

WANTED = {"run": str, "notebooks": dict, "tables": dict, "packages": dict, "code": dict}  # of a manifest
NAME = re.compile(r"[\w.-]+")
WITHOUT = {  # folders that a committed or archived run does without
    "data": "scans and masks",
    "predictions": "predicted masks",
    "model": "weights",
    "html": "pages",
}
DEMO = Path(__file__).resolve().parents[1] / "reports" / "demo"
MAX_TEXT_BYTES = 256 * 2**20  # of a manifest, settings file or notebook


@dataclass
class Findings:
    """What was compared, what this copy does without, and what is wrong; each a sentence."""

    right: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"right: {text}" for text in self.right]
        lines += [f"not here: {text}" for text in self.absent]
        return "\n".join([*lines, *(f"WRONG: {text}" for text in self.wrong)])


def verify(path: Path) -> Findings:
    """Check a run folder, or the zip that `ich archive` made of one.

    Raises
    ------
    FileNotFoundError, ValueError
        `path` is neither a finished run nor a zip that can be unpacked safely.
    """
    if path.is_dir():
        return verify_run(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such run folder or archive")
    with tempfile.TemporaryDirectory(prefix="ich-verify-") as temporary:
        folder = Path(temporary)
        names = unpack(path, folder)
        found = Findings()
        _check_crate(folder, names, found)
        inside = verify_run(folder, path.name)
    return Findings(found.right + inside.right, inside.absent, found.wrong + inside.wrong)


def verify_run(run: Path, shown: str = "") -> Findings:
    """Check a run folder against its manifest, and its tables against their schemas and each other.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no manifest, or it is none of a run's.
    """
    manifest = _manifest(run, shown or run.name)
    found = Findings()
    _check_hashes(run, manifest["tables"], found)
    _check_schemas(run, found)
    _check_cases(run, found)
    _check_settings(run, manifest, found)
    _check_notebooks(run, list(manifest["notebooks"]), found)
    _check_pages(run, manifest.get("pages"), found)
    _check_figures(run, manifest.get("figures"), found)
    _check_claims(run, found)
    _check_scans(run, found)
    _check_weights(run, manifest.get("weights"), found)
    found.absent += [f"{name}/ ({what})" for name, what in WITHOUT.items() if not (run / name).is_dir()]
    return found


def _manifest(run: Path, shown: str) -> dict:
    path = run / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"{shown}: no manifest.json: the run is not finished, or this is no run")
    try:
        manifest = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown}: manifest.json cannot be read ({error})") from error
    for name, kind in WANTED.items():
        if not isinstance(manifest, dict) or not isinstance(manifest.get(name), kind):
            raise ValueError(f"{shown}: manifest.json has no {name}, or one that is no {kind.__name__}")
    for name, stated in manifest["tables"].items():
        if not NAME.fullmatch(name) or not isinstance(stated, dict) or not {"sha256", "rows"} <= set(stated):
            raise ValueError(f"{shown}: manifest.json: table {name!r}: wanted a file name with sha256 and rows")
    for name in manifest["notebooks"]:
        if not NAME.fullmatch(name):
            raise ValueError(f"{shown}: manifest.json: notebook {name!r}: wanted a name without separators")
    return manifest


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, wanted at most {MAX_TEXT_BYTES}")
    return path.read_text(encoding="utf-8")


def _check_hashes(run: Path, stated: dict[str, dict], found: Findings) -> None:
    try:
        here = describe_tables(run / "tables")
    except ValueError as error:
        found.wrong.append(f"tables: {_line(error)}")
        return
    wrong = [f"tables/{name} is missing" for name in stated if name not in here]
    wrong += [f"tables/{name} is not in the manifest" for name in here if name not in stated]
    for name in sorted(set(stated) & set(here)):
        for what in ("rows", "sha256"):
            if here[name][what] != stated[name][what]:
                wrong.append(f"tables/{name}: {what} is {here[name][what]}, the manifest says {stated[name][what]}")
    _say(found, wrong, f"SHA-256 and rows of {len(stated)} tables")


def _check_schemas(run: Path, found: Findings) -> None:
    wrong, known = [], [name for name in tables.SCHEMAS if (run / "tables" / f"{name}.csv").is_file()]
    for name in known:
        try:
            tables.read(run / "tables" / f"{name}.csv")
        except ValueError as error:
            wrong.append(_line(error))
    _say(found, wrong, f"schema of {', '.join(known)}" if known else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_cases(run: Path, found: Findings) -> None:
    """The same cases in every table: splits are of included cases, measurements of test cases."""
    cohort, splits, measured = (_identifiers(run, name) for name in ("cohort", "splits", "measurements"))
    wrong: list[str] = []
    if cohort is not None and splits is not None:
        included = cohort.loc[cohort["included"].isin(["True", "true", "1"]), "case_id"]
        wrong += _beyond("splits.csv", splits["case_id"], included, "is no included case of cohort.csv")
        shared = splits.groupby("patient_id")["split"].nunique()
        wrong += [f"splits.csv: patient {patient} stands in several splits" for patient in shared.index[shared > 1]]
    if splits is not None and measured is not None:
        tests = (run / "notebooks" / "03_test_set.ipynb").is_file()  # else 04 has measured every mask
        tested = splits.loc[splits["split"] == "test", "case_id"] if tests else splits["case_id"]
        wrong += _beyond("measurements.csv", measured["case_id"], tested, "is no test case of splits.csv")
    if splits is not None:
        _say(found, wrong, "cases of splits and measurements, no patient in two splits")


def _identifiers(run: Path, name: str) -> pd.DataFrame | None:
    wanted = {
        "cohort": ["case_id", "included"],
        "splits": ["case_id", "patient_id", "split"],
        "measurements": ["case_id"],
    }
    path = run / "tables" / f"{name}.csv"
    try:
        return pd.read_csv(path, dtype="str", usecols=wanted[name])
    except (FileNotFoundError, ValueError):  # its schema has said what is wrong
        return None


def _beyond(table: str, cases: pd.Series, allowed: pd.Series, said: str) -> list[str]:
    return [f"{table}: case {case} {said}" for case in cases[~cases.isin(allowed)]]


def _check_settings(run: Path, manifest: dict, found: Findings) -> None:
    path = run / "settings.yaml"
    if not path.is_file():
        found.wrong.append("settings.yaml is missing")
        return
    try:
        settings = yaml.safe_load(_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        found.wrong.append(f"settings.yaml cannot be read ({_line(error)})")
        return
    given = settings.get("parameters") if isinstance(settings, dict) else None
    ran = {
        name: record.get("parameters") if isinstance(record, dict) else None
        for name, record in manifest["notebooks"].items()
    }
    differing = [name for name in ran if not isinstance(given, dict) or given.get(name) != ran[name]]
    wrong = [f"settings.yaml: parameters of {name} differ from the manifest's" for name in differing]
    _say(found, wrong, "parameters in settings and manifest")


def _check_notebooks(run: Path, names: list[str], found: Findings) -> None:
    wrong = []
    for name in names:
        path = run / "notebooks" / f"{name}.ipynb"
        try:
            cells = json.loads(_text(path))["cells"]
            outputs = [output for cell in cells for output in cell.get("outputs", ())]
            failed = [output.get("ename") for output in outputs if output["output_type"] == "error"]
        except FileNotFoundError:
            wrong.append(f"notebooks/{name}.ipynb is missing")
            continue
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            wrong.append(f"notebooks/{name}.ipynb is no notebook")
            continue
        wrong += [f"notebooks/{name}.ipynb holds an error: {kind}" for kind in failed]
    _say(found, wrong, f"{len(names)} executed notebooks, without errors")
    if (run / "html").is_dir():
        pages = ["index", *names]
        missing = [f"html/{name}.html is missing" for name in pages if not (run / "html" / f"{name}.html").is_file()]
        _say(found, missing, f"{len(pages)} pages")


def _check_pages(run: Path, stated: dict[str, str] | None, found: Findings) -> None:
    """Pages, notebooks, tables for print and captions are those of the manifest, where it and this copy have them."""
    if not isinstance(stated, dict):
        return
    here = describe_pages(run)
    changed = [
        f"{name} is not the one that the manifest states" for name in sorted(here) if stated.get(name) != here[name]
    ]
    _say(found, changed, f"SHA-256 of {len(here)} pages, notebooks, tables for print and captions")


def _check_figures(run: Path, stated: dict[str, str] | None, found: Findings) -> None:
    """Every figure that has a caption is there as SVG and PNG; a simulated cohort's carry `_simulated`. All are those
    that the manifest states, where it states any."""
    path = run / "figures" / "captions.json"
    if not path.is_file():
        found.absent.append("figures/captions.json (nothing tells which figures there were)")
        return
    try:
        captions = list(json.loads(_text(path)))
    except (ValueError, TypeError, RecursionError) as error:
        found.wrong.append(f"figures/captions.json cannot be read ({_line(error)})")
        return
    here = {file.name for file in path.parent.iterdir()}
    wrong = [
        f"figures/{name}{ending} is missing"
        for name in captions
        for ending in (".svg", ".png")
        if not {f"{name}{ending}", f"{name}_simulated{ending}"} & here
    ]
    _say(found, wrong, f"{len(captions)} figures, SVG and PNG")
    if isinstance(stated, dict):
        here_now = describe_figures(path.parent)
        differing = [name for name in sorted(stated | here_now) if stated.get(name) != here_now.get(name)]
        changed = [f"figures/{name} is not the one that the manifest states" for name in differing]
        _say(found, changed, f"SHA-256 of {len(stated)} files of figures")


def _check_claims(run: Path, found: Findings) -> None:
    """The points, biases and limits that figures show, and for the demo as committed the numbers that README quotes."""
    try:
        cases, reference = claims.compared_cases(run)
        summary = pd.read_csv(run / "tables" / "agreement_summary.csv")
        compared, wrong = claims.of_figures(run, cases, summary, reference)
    except FileNotFoundError:
        compared, wrong = 0, []  # a run without agreement
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        compared, wrong = 0, [f"figures cannot be held against the tables ({_line(error)})"]
    _say(found, wrong, f"{compared} numbers in figures stand in the tables" if compared else "")
    readme = DEMO.parents[1] / "README.md"
    # Made again, on another processor say, the demo has numbers of its own; README quotes the committed ones.
    if run.resolve() == DEMO and readme.is_file() and as_committed(run / "tables"):
        quoted, wrong = claims.of_text(_text(readme), run / "tables")
        _say(found, [f"README.md: {text}" for text in wrong], f"{quoted} numbers of README.md")


def _check_scans(run: Path, found: Findings) -> None:
    """Where the run's own scans are kept, every file that the cohort names is there."""
    if not (run / "data").is_dir():
        return
    try:
        cohort = tables.read(run / "tables" / "cohort.csv")
    except (ValueError, FileNotFoundError):  # said already
        return
    wrong, seen = [], 0
    for column in ("image", "reference_mask", "second_mask"):
        for case, name in zip(cohort["case_id"], cohort[column], strict=True):
            if isinstance(name, str) and name.startswith("data/") and is_inside(name):
                seen += 1
                wrong += [] if (run / name).exists() else [f"case {case}: {column} {name} is missing"]
    _say(found, wrong, f"{seen} scans and masks are there")


def _check_weights(run: Path, ran_with: object, found: Findings) -> None:
    card, weights = run / "model" / "settings.json", run / "model" / "weights.safetensors"
    if not (run / "model").is_dir():
        return
    try:
        stated = json.loads(_text(card))["sha256"]
        same = stated == file_hash(weights)
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.wrong.append(f"model cannot be checked ({type(error).__name__}: settings.json or weights.safetensors)")
        return
    wrong = [] if same else ["model/weights.safetensors differs from its settings.json"]
    if ran_with and stated != ran_with:
        wrong.append("model/ holds another network than the one that the manifest states")
    _say(found, wrong, "SHA-256 of the weights")


def _check_crate(folder: Path, names: list[str], found: Findings) -> None:
    stated = crate_hashes(folder)
    here = set(names) - {METADATA}
    wrong = [f"{name} is in {METADATA} and not in the archive" for name in sorted(set(stated) - here)]
    wrong += [f"{name} is in the archive and not in {METADATA}" for name in sorted(here - set(stated))]
    for name in sorted(set(stated) & here):
        if file_hash(folder / name) != stated[name]:
            wrong.append(f"{name}: SHA-256 differs from {METADATA}")
    _say(found, wrong, f"SHA-256 of {len(stated)} files in {METADATA}")


def _say(found: Findings, wrong: list[str], right: str) -> None:
    found.wrong += wrong
    if right and not wrong:
        found.right.append(right)
