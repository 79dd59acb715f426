"""The run of a study: a profile's notebooks in order, into one run folder, then a manifest."""

import json
import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import yaml

from ich import remote, run_folder
from ich.atomic import locked, write_text
from ich.choices import check_choices
from ich.folders import real_path
from ich.html import notebook_html, report_links
from ich.notebook import LeftOut, Parameter, declared, execute, fingerprint, unknown
from ich.provenance import code_version, describe_input, file_hash, machine, package_versions
from ich.report import write_report

PATH_PARAMETERS = (
    "masks", "images", "about", "manifest", "root", "set_aside", "predictions", "start_from", "model_from", "scan",
    "earlier", "weights", "volumes",
)  # fmt: skip
READINGS, TAKES_READINGS = run_folder.READINGS.as_posix(), "04_agreement"
NAMED_BY_PATIENTS = ("root", "scan", "earlier")  # hospitals name folders by patients: such a path is kept nowhere
MAX_PROFILE_BYTES = 2**20


@dataclass(frozen=True)
class Profile:
    """What a study runs, from a YAML file; a key of `parameters` is `name` or `notebook.name`."""

    name: str
    title: str
    notebooks: list[str]
    parameters: dict = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # notebook: why this study does without it
    required: list[str] = field(default_factory=list)  # parameters that must not stay empty; a|b: one of both
    needs_mb: int = 500  # free space that the run folder wants at the start
    timeout_s: int = 3600  # longest time of one cell


@dataclass(frozen=True)
class Plan:
    """A checked study, ready to run."""

    profile: Profile
    sources: dict[str, Path]
    parameters: dict[str, dict]  # for each notebook every parameter, as the kernel gets it
    shown: dict[str, str]  # stored form of values that would tell of this machine
    inputs: dict[str, Path]  # files and folders the study reads, by parameter
    run: Path

    def stored(self, notebook: str) -> dict:
        """A notebook's parameters as settings and manifest hold them."""
        return {
            name: self.shown.get(value, value) if isinstance(value, str) else value
            for name, value in self.parameters[notebook].items()
        }


def read_profile(name: str, notebooks: Path) -> Profile:
    """A profile by its name in `notebooks`/profiles, or from a YAML file of one's own.

    Raises
    ------
    FileNotFoundError, ValueError
        No such profile; a key that is unknown, missing or of another type.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else notebooks / "profiles" / f"{name}.yaml"
    if not path.is_file():
        if path.parent == notebooks / "profiles":
            raise unknown(name, sorted(file.stem for file in path.parent.glob("*.yaml")), "profile")
        raise FileNotFoundError(f"profile {name} does not exist")
    if path.stat().st_size > MAX_PROFILE_BYTES:
        raise ValueError(f"{path.name}: {path.stat().st_size} bytes, wanted at most {MAX_PROFILE_BYTES}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: not YAML: {' '.join(str(error).split())}") from error
    wanted = {
        "title": str,
        "notebooks": list,
        "parameters": dict,
        "left_out": dict,
        "required": list,
        "needs_mb": int,
        "timeout_s": int,
    }
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: wanted a mapping with {', '.join(wanted)}")
    for key, value in content.items():
        if key not in wanted:
            raise ValueError(f"{path.name}: {unknown(str(key), list(wanted), 'key')}")
        if not isinstance(value, wanted[key]):
            raise ValueError(f"{path.name}: {key} is {type(value).__name__}, wanted {wanted[key].__name__}")
    for key in ("title", "notebooks"):
        if not content.get(key):
            raise ValueError(f"{path.name}: {key} is missing")
    repeated = sorted({each for each in content["notebooks"] if content["notebooks"].count(each) > 1})
    if repeated:
        raise ValueError(f"{path.name}: notebooks names {', '.join(repeated)} more than once")
    wordless = [name for name, why in content.get("left_out", {}).items() if not isinstance(why, str)]
    if wordless:
        raise ValueError(f"{path.name}: left_out {wordless[0]}: wanted the reason as text")
    return Profile(name=path.stem, **content)


def plan(profile: Profile, settings: list[str], name: str | None = None, *, reports: Path, notebooks: Path) -> Plan:
    """Check every name, type and path of a study before anything starts.

    Parameters
    ----------
    settings : `key=value` texts, applied over the profile's parameters; a key is `name` or `notebook.name`.
    name : of the run, the profile's by default.

    Raises
    ------
    ValueError, FileNotFoundError
        Names the parameter or path, what was found and what was wanted.
    """
    name = name or profile.name
    if Path(name).name != name or name.startswith("."):
        raise ValueError(f"run name {name!r}: wanted a folder name without separators")
    notebooks, run = notebooks.resolve(), reports.resolve() / name
    sources = {notebook: notebooks / f"{notebook}.ipynb" for notebook in profile.notebooks}
    for notebook, path in sources.items():
        if not path.is_file():
            raise FileNotFoundError(f"profile {profile.name}: notebook {notebook}.ipynb is not in {notebooks}")
    known = {notebook: declared(path) for notebook, path in sources.items()}
    values = {notebook: {p.name: p.default for p in found.values()} for notebook, found in known.items()}
    for key, value in profile.parameters.items():
        for notebook, parameter in _declaring(key, known):
            checked = parameter.check(value)
            if parameter.name in PATH_PARAMETERS and checked:
                checked = str(notebooks / str(checked))  # a profile's paths are from the notebooks, as theirs are
            values[notebook][parameter.name] = checked
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: wanted key=value")
        for notebook, parameter in _declaring(key, known):
            values[notebook][parameter.name] = parameter.parse(value)
    for keys in profile.required:
        one_of = keys.split("|")
        if not any(values[notebook][found.name] for key in one_of for notebook, found in _declaring(key, known)):
            raise ValueError(f"profile {profile.name} needs {' or '.join(one_of)}: give it with --set {one_of[0]}=...")
    check_choices(values)
    shown: dict[str, str] = {}
    inputs: dict[str, Path] = {}
    for chosen in values.values():
        for path_name in set(PATH_PARAMETERS) & set(chosen):
            given = os.path.expanduser(str(chosen[path_name]))  # a shell leaves the ~ of name=~/folder
            if given:
                inputs[path_name] = real_path(remote.local(given))
                if not inputs[path_name].exists():
                    raise FileNotFoundError(f"{path_name}={given}: no such file or folder")
                chosen[path_name] = _from_notebooks(inputs[path_name], notebooks, shown)
                if path_name in NAMED_BY_PATIENTS:
                    shown[str(chosen[path_name])] = "…"
        if "run_dir" in chosen:
            chosen["run_dir"] = _from_notebooks(run, notebooks, shown)
    return Plan(profile, sources, values, shown, inputs, run)


def _declaring(key: str, known: dict[str, dict[str, Parameter]]) -> list[tuple[str, Parameter]]:
    """The notebooks that declare `key`, with the parameter; run_dir is the runner's own."""
    notebook, dot, name = key.rpartition(".")
    if name == "run_dir":
        raise ValueError("run_dir is set by the run's name: use --name and --reports")
    found = [
        (where, parameters[name])
        for where, parameters in known.items()
        if name in parameters and (not dot or where == notebook)
    ]
    if not found:
        names = [f"{where}.{each}" for where in known for each in known[where]] if dot else []
        every = names or list(dict.fromkeys(each for parameters in known.values() for each in parameters))
        raise unknown(key, [each for each in every if not each.endswith("run_dir")], "parameter")
    return found


def _from_notebooks(path: Path, notebooks: Path, shown: dict[str, str]) -> str:
    """`path` from the notebooks folder; outside the folder that holds the project only its name is stored."""
    relative = Path(os.path.relpath(path, notebooks)).as_posix()
    if not path.is_relative_to(notebooks.parent.parent):
        shown[relative] = f"…/{path.name}"
    return relative


def run_study(plan: Plan, *, resume: bool = False, overwrite: bool = False, until: str | None = None) -> Path:
    """Run a planned study; returns its index page, or that of the notebook `until`, after which it stops unfinished
    (where that notebook leaves itself out, the page of the one before it).

    Raises
    ------
    FileExistsError, OSError : the run exists already, is in use, or cannot be written.
    NotebookFailed : a notebook stopped; the run has no manifest then.
    """
    run = plan.run
    run.parent.mkdir(parents=True, exist_ok=True)
    _described.cache_clear()
    with locked(run_folder.lock(run), f"run {run.name}"):
        done = _prepare(plan, resume, overwrite)
        code = code_version(plan.sources[plan.profile.notebooks[0]].parent.parent)
        _write_mapping(run / "settings.yaml", _settings(plan))
        names = plan.profile.notebooks
        links, left = report_links(names), {}
        for place, name in enumerate(names):
            if name in done:
                notebook_html(run / "notebooks" / f"{name}.ipynb", run / "html" / f"{name}.html", links)
                continue
            parameters = plan.parameters[name]
            inputs = _inputs(plan, name)
            begun, clock = _now(), time.monotonic()
            try:
                with _progress(f"[{place + 1}/{len(names)}] {name}") as on_cell:
                    execute(
                        plan.sources[name],
                        run / "notebooks" / f"{name}.ipynb",
                        parameters,
                        plan.shown,
                        on_cell,
                        plan.profile.timeout_s,
                    )
            except LeftOut as reason:
                print(f"{name} is left out: {reason}")
                left[name] = str(reason)
                (run / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)
                if name == until:
                    return run / "html" / f"{list(done)[-1]}.html" if done else run
                continue
            notebook_html(run / "notebooks" / f"{name}.ipynb", run / "html" / f"{name}.html", links)
            done[name] = {
                "parameters": plan.stored(name),
                "fingerprint": fingerprint(plan.sources[name], parameters),
                "inputs": inputs,
                "started": begun,
                "ended": _now(),
                "seconds": round(time.monotonic() - clock, 1),
                "code": code,
            }
            _write_mapping(run / "progress.json", done)
            run_folder.settle(run)
            if name == until:
                return run / "html" / f"{name}.html"
        for name in done if left else ():  # their pages lead to one that is not there
            notebook_html(run / "notebooks" / f"{name}.ipynb", run / "html" / f"{name}.html", report_links(list(done)))
        return _finish(plan, done, code, left)


def _prepare(plan: Plan, resume: bool, overwrite: bool) -> dict[str, dict]:
    """Make the run folder ready; returns the records of notebooks that need not run again."""
    run = plan.run
    content = list(run.iterdir()) if run.is_dir() else []
    if content and not (resume or overwrite):
        state = "is finished" if (run / "manifest.json").is_file() else "is unfinished: --resume continues it"
        raise FileExistsError(f"run {run.name} exists and {state}; --overwrite replaces it, --name gives another name")
    free_mb = shutil.disk_usage(run.parent).free // 2**20
    if free_mb < plan.profile.needs_mb:
        raise OSError(f"run {run.name}: {free_mb} MB free, wanted {plan.profile.needs_mb} (needs_mb of the profile)")
    if content and overwrite and not resume:
        run_folder.set_aside(run, plan.inputs)
    run_folder.make(run)
    return _finished(plan) if resume else {}


def _finished(plan: Plan) -> dict[str, dict]:
    """Records of the notebooks up to the first one that is not done or has changed since."""
    records: dict[str, dict] = {}
    if (plan.run / "manifest.json").is_file():
        records = json.loads((plan.run / "manifest.json").read_text(encoding="utf-8"))["notebooks"]
    elif (plan.run / "progress.json").is_file():
        records = json.loads((plan.run / "progress.json").read_text(encoding="utf-8"))
    kept: dict[str, dict] = {}
    for name in plan.profile.notebooks:
        if name not in records or not (plan.run / "notebooks" / f"{name}.ipynb").is_file():
            break
        if records[name]["fingerprint"] != fingerprint(plan.sources[name], plan.parameters[name]):
            print(f"{name}: notebook or parameters changed; it runs again, and all after it")
            break
        now = _inputs(plan, name)
        before = records[name].get("inputs", now)
        # A record without readings has taken in none, or is of a version that did not tell: they are taken in again.
        known = sorted(before.keys() | {READINGS} & now.keys())
        if changed := [key for key in known if now.get(key) != before.get(key)]:
            print(f"{name}: {', '.join(changed)} changed; it runs again, and all after it")
            break
        kept[name] = records[name]
    if len(kept) == len(plan.profile.notebooks):
        print(f"run {plan.run.name} is finished; its pages are written again, --overwrite runs the notebooks")
    elif kept:
        print(f"already done: {', '.join(kept)}")
    _write_mapping(plan.run / "progress.json", kept)
    (plan.run / "manifest.json").unlink(missing_ok=True)
    return kept


@cache
def _described(path: Path) -> dict:
    """`describe_input`, read once in a call: of what the first notebook is given, whatever becomes of it meanwhile."""
    return describe_input(path)


def _inputs(plan: Plan, notebook: str) -> dict[str, str]:
    """SHA-256 of what a notebook reads that no notebook before it wrote, by parameter; readings by their place."""
    given, readings = plan.parameters[notebook], plan.run / READINGS
    found = {name: _described(path)["sha256"] for name, path in plan.inputs.items() if given.get(name)}
    if notebook == TAKES_READINGS and readings.is_file():
        found[READINGS] = file_hash(readings)  # not kept like the others: people write it at any time
    return found


def _finish(plan: Plan, done: dict[str, dict], code: dict, left: dict[str, str]) -> Path:
    """Pages and documents, then the manifest; only a run that has one is finished."""
    run, profile = plan.run, plan.profile
    seeds = {
        f"{notebook}.{name}": value
        for notebook, record in done.items()
        for name, value in record["parameters"].items()
        if name.endswith("seed")
    }
    manifest = {
        "run": run.name,
        "title": profile.title,
        "profile": profile.name,
        "started": min(record["started"] for record in done.values()),
        "ended": max(record["ended"] for record in done.values()),
        "code": code,
        "machine": machine(),
        "packages": package_versions(),
        "seeds": seeds,
        "notebooks": done,
        "left_out": profile.left_out | left,
        "inputs": {name: _described(path) for name, path in sorted(plan.inputs.items())},
        "weights": file_hash(weights) if (weights := run / "model" / "weights.safetensors").is_file() else None,
    }
    index = write_report(run, manifest, plan.inputs.get("predictions"))
    _write_mapping(run / "manifest.json", manifest)
    (run / "progress.json").unlink(missing_ok=True)
    return index


def _settings(plan: Plan) -> dict:
    return {
        "title": plan.profile.title,
        "profile": plan.profile.name,
        "notebooks": plan.profile.notebooks,
        "parameters": {name: plan.stored(name) for name in plan.profile.notebooks},
        "left_out": plan.profile.left_out,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_mapping(path: Path, content: dict) -> None:
    if path.suffix == ".yaml":
        write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    else:
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def _progress(label: str):
    """A line in the terminal: rewritten every second on a TTY, otherwise one at start and one at end."""
    begun, live, over = time.monotonic(), sys.stdout.isatty(), threading.Event()
    at = {"cell": 0, "count": 0}

    def on_cell(cell: int, count: int) -> None:
        at.update(cell=cell, count=count)

    def rewrite() -> None:
        while not over.wait(1.0):
            line = f"{label}  cell {at['cell']}/{at['count']}  {time.monotonic() - begun:.0f} s"
            print(f"\r\x1b[K{line}", end="", flush=True)

    ticker = threading.Thread(target=rewrite, daemon=True)
    if live:
        ticker.start()
    else:
        print(f"{label} starts", flush=True)
    outcome = ""
    try:
        yield on_cell
        outcome = f"done, {at['count']} cells"
    except BaseException:
        outcome = f"stopped in cell {at['cell']} of {at['count']}"
        raise
    finally:
        over.set()
        if live:
            ticker.join()
        print(
            f"{chr(13) + chr(27) + '[K' if live else ''}{label} {outcome}, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
