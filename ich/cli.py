"""The command line: reads arguments, calls one function of the package, says what happened."""

import argparse
import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path

from ich.arguments import ROOT, parser
from ich.atomic import write_text
from ich.cluster import SCHEDULER
from ich.jobqueue import scheduler


def main(arguments: list[str] | None = None) -> int:
    """Run `ich`; 0 done, 1 a study or some of the files failed, 2 wrong input, 130 interrupted."""
    options = parser().parse_args(arguments)
    try:
        _check_output(options)
        with scheduler(getattr(options, "scheduler", None)) as address:
            if address:
                os.environ[SCHEDULER] = address  # the kernels of notebooks inherit it
            return COMMANDS[options.name_of_command](options)
    except (ValueError, OSError, MemoryError, FloatingPointError) as error:
        if os.environ.get("ICH_DEBUG"):
            raise
        what: object = error
        if isinstance(error, FileNotFoundError) and error.filename:
            what = f"{error.filename}: no such file or folder"
        print(f"ich {options.name_of_command}: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"ich {options.name_of_command}: interrupted", file=sys.stderr)
        return 130


def _check_output(options: argparse.Namespace) -> None:
    """Refuse a table or JSON file that would take the place of an input, or whose name is of another kind."""
    ending = {"measure": ".csv", "agree": ".json", "archive": ".zip"}.get(options.name_of_command)
    if ending is None:
        return
    given = {"measure": "masks", "agree": "table", "archive": "run"}[options.name_of_command]
    read = getattr(options, given)
    inputs = read if isinstance(read, list) else [read]
    if options.out.resolve() in {Path(str(each)).resolve() for each in inputs}:
        raise ValueError(f"--out {options.out} is an input and would be overwritten: choose another file")
    if options.out.suffix.lower() != ending:
        raise ValueError(f"--out {options.out}: wanted a file that ends in {ending}, which is what is written")


def _study(options: argparse.Namespace) -> int:
    from ich.notebook import NotebookFailed
    from ich.run_folder import before
    from ich.study import plan, read_profile, run_study

    profile = read_profile(options.profile, options.notebooks)
    if options.until and options.until not in profile.notebooks:
        raise ValueError(f"--until {options.until}: wanted one of {', '.join(profile.notebooks)}")
    if options.title:
        profile = dataclasses.replace(profile, title=options.title)
    planned = plan(profile, options.set, options.name, reports=options.reports, notebooks=options.notebooks)
    try:
        index = run_study(planned, resume=options.resume, overwrite=options.overwrite, until=options.until)
    except NotebookFailed as error:
        if (kept := before(planned.run)).is_dir():
            print(f"the run before is kept in {kept} until the first notebook is done", file=sys.stderr)
        print(f"\n{error}\ncontinue with: {_resume(options)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstudy interrupted; continue with: {_resume(options)}", file=sys.stderr)
        return 130
    print(f"Report: {index}")
    if options.until:
        print(f"continue with: {_resume(options)}")
    return 0


def _resume(options: argparse.Namespace) -> str:
    """The command that continues this study."""
    words = ["ich", "study", options.profile]
    for text in options.set:
        words += ["--set", text]
    for name in ("name", "title"):
        words += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    for name in ("reports", "notebooks"):
        given = getattr(options, name)
        words += [f"--{name}", str(given)] if given != ROOT / name else []
    return shlex.join([*words, "--resume"])


def _phantom(options: argparse.Namespace) -> int:
    from ich.phantom import write_cohort

    if options.n < 1:
        raise ValueError(f"--n {options.n}: wanted at least 1")
    if options.size < 32:
        raise ValueError(f"--size {options.size}: wanted at least 32 pixels on a side")
    table = write_cohort(options.out, options.n, options.seed, options.size, options.jobs)
    print(f"{len(table)} simulated cases in {options.out}")
    return 0


def _cohort(options: argparse.Namespace) -> int:
    from ich.sources import KINDS

    if options.kind is None:
        for kind in KINDS.values():
            print(f"{kind.name}: {kind.title}\n  {kind.layout}\n  from {kind.obtained}; license: {kind.license}\n")
        return 0
    if options.kind not in KINDS:
        raise ValueError(f"kind of dataset {options.kind!r} is not known, wanted one of {', '.join(KINDS)}")
    if options.root is None or options.out is None:
        raise ValueError("wanted: ich cohort KIND ROOT --out DIR")
    settings = [f"source={options.kind}", f"root={options.root}", *options.set]
    return _run_folder("cohort", settings, options.out, options.overwrite)


def _run_folder(profile_name: str, settings: list[str], out: Path, overwrite: bool) -> int:
    """Run a profile into a folder of the caller's choice; says what was excluded."""
    from ich import detection, run_folder, tables
    from ich.notebook import NotebookFailed
    from ich.study import plan, read_profile, run_study

    out, notebooks = out.resolve(), ROOT / "notebooks"
    profile = read_profile(profile_name, notebooks)
    try:
        index = run_study(
            plan(profile, settings, out.name, reports=out.parent, notebooks=notebooks), overwrite=overwrite
        )
    except FileExistsError as error:
        if overwrite:
            raise
        raise FileExistsError(
            f"{out} holds a run already: --overwrite replaces it, --out names another folder"
        ) from error
    except NotebookFailed as error:
        kind, _, said = error.reason.partition("\n")[0].partition(": ")
        if kind in ("ScanError", "ValueError") and not (out / "tables" / "cohort.csv").is_file():
            # The input cannot be read: nothing was made of it, and what the notebook quotes of it may name patients.
            run_folder.restore(out)
            raise ValueError(said) from None
        print(f"\n{error}", file=sys.stderr)
        if (out / "tables" / "exclusions.csv").is_file():
            _say_failures(tables.read(out / "tables" / "exclusions.csv"))
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; begin again with --overwrite, or remove {out}", file=sys.stderr)
        return 130
    print(f"Report: {index}")
    return _say_failures(detection.failures(out))


def _export(options: argparse.Namespace) -> int:
    from ich.nnunet import export

    folder = export(_run(options.run, options.reports), options.out)
    print(f"{folder}; splits_final.json belongs into nnUNet_preprocessed/{folder.name}")
    return 0


def _measure(options: argparse.Namespace) -> int:
    from ich.measure import measure_masks
    from ich.remote import local
    from ich.tables import write_plain

    table, failures = measure_masks([local(mask) for mask in options.masks], options.jobs)
    if len(table):
        write_plain(table, options.out)
        print(f"{len(table)} masks measured: {options.out}")
    return _say_failures(failures)


def _agree(options: argparse.Namespace) -> int:
    from ich.agreement import panel
    from ich.given import read_given

    table = read_given(options.table, numbers=True)
    if "case_id" not in table:  # as a spreadsheet counts them
        table = table.assign(case_id=[f"row {number}" for number in range(2, len(table) + 2)])
    if options.patient and options.patient not in table:
        raise ValueError(f"--patient {options.patient}: no such column; found {', '.join(map(str, table.columns))}")
    patient = options.patient or ("patient_id" if "patient_id" in table else None)
    margins = {"margin_ml": options.margin_ml, "margin_percent": options.margin_percent}
    methods = list(dict.fromkeys(options.method))
    results = {method: panel(table, method, options.reference, patient=patient, **margins) for method in methods}
    for column in (*methods, options.reference):
        if (below := table[column] < 0).any():
            row = int(below.argmax())
            raise ValueError(
                f"{column}: row {row + 2} of the table is {table[column][row]:g}, wanted volumes of 0 or more"
            )
    several = len(methods) > 1
    _write_json(results if several else results[methods[0]], options.out)
    for method, result in results.items():
        lacking = f"; {result['n_missing']} rows lack a volume" if result["n_missing"] else ""
        whose = (
            f" of {result['n_patients']} patients"
            if patient
            else ", each row taken for a patient (--patient names them)"
        )
        limits = f"limits of agreement {result['loa_lower']:.2f} to {result['loa_upper']:.2f} ml"
        named = f"{method}: " if several else ""
        print(f"{named}n {result['n']}{whose}; bias {result['bias']:.2f} ml, {limits}{lacking}: {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from ich.measure import masks_in
    from ich.remote import local

    references, predictions = (masks_in(local(given)) for given in (options.reference, options.prediction))
    if not references.keys() & predictions.keys():
        raise ValueError(
            f"no reference mask has a prediction of its name: {len(references)} references ({min(references)}, ...), "
            f"{len(predictions)} predictions ({min(predictions)}, ...)"
        )
    settings = [f"masks={options.reference}", f"predictions={options.prediction}", f"jobs={options.jobs}"]
    settings += [f"about={options.cohort}"] if options.cohort else []
    return _run_folder("external", settings, options.out, options.overwrite)


def _compare(options: argparse.Namespace) -> int:
    from ich.compare import compare, read_runs
    from ich.compare_page import write_comparison
    from ich.volume_table import listed

    folders = [_run(run, options.reports) for run in options.runs]
    found = compare(read_runs(folders, options.label), options.method, by=listed(options.by))
    print(f"{len(found.runs)} runs, {len(found.cases)} shared cases: {write_comparison(found, options.out)}")
    return 0


def _pool(options: argparse.Namespace) -> int:
    from ich import run_folder
    from ich.notebook import NotebookFailed
    from ich.pool import pool
    from ich.study import plan, read_profile, run_study

    out, notebooks = options.out.resolve(), ROOT / "notebooks"
    runs = [_run(run, options.reports) for run in options.runs]
    settings = [f"predictions={pool(runs, out)}", *options.set]
    profile = read_profile("pooled", notebooks)
    trained = f"{', '.join(run_folder.unlike_names(runs))} have trained a network each"
    profile = dataclasses.replace(profile, left_out=profile.left_out | {"02_training": trained})
    try:
        planned = plan(profile, settings, out.name, reports=out.parent, notebooks=notebooks)
    except (ValueError, FileNotFoundError):
        run_folder.restore(out)  # a parameter is wrong: the next call finds the folder free
        raise
    try:
        print(f"Report: {run_study(planned, resume=True)}")
    except NotebookFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _segment(options: argparse.Namespace) -> int:
    from ich.batch import scans_in, segment_all
    from ich.case_files import segment
    from ich.folders import real_path
    from ich.model import SHIPPED_WEIGHTS
    from ich.remote import local

    weights = options.weights or SHIPPED_WEIGHTS
    if not all(options.scan):
        raise ValueError("an empty text stands for a scan: wanted a file or folder")
    scans = [scan for path in options.scan for scan in scans_in(local(path))]
    inside = [scan for scan in scans if not real_path(scan).is_relative_to(real_path(options.out))]
    scans = inside or scans  # what an earlier call has written there is no scan
    if options.earlier_series and not options.earlier:
        raise ValueError("--earlier-series goes with --earlier")
    if len(scans) > 1:
        if options.earlier:
            raise ValueError(f"--earlier goes with one scan, {len(scans)} were given")
        if options.series:
            raise ValueError(f"--series goes with one scan, {len(scans)} were given")
        summary = segment_all(scans, options.out, weights, options.device, options.jobs, options.resume)
        failed = summary[summary["reason"].notna()]
        print(f"{len(scans) - len(failed)} of {len(scans)} scans (research use only): {options.out / 'summary.csv'}")
        return _say_failures(failed.rename(columns={"case": "case_id"}))
    earlier = local(options.earlier) if options.earlier else None
    result = segment(
        scans[0], options.out, weights, options.device, earlier,
        series=options.series, earlier_series=options.earlier_series,
    )  # fmt: skip
    trained = "trained on simulated CT only, " if result["weights"]["simulated"] else ""
    print(f"{result['volume_ml']:.1f} ml of blood ({trained}research use only): {options.out / 'case.html'}")
    for text in result["warnings"]:
        print(f"warning: {text}", file=sys.stderr)
    return 0


def _train(options: argparse.Namespace) -> int:
    from ich.distributed import is_first
    from ich.notebook import chosen
    from ich.trained import train_run

    line = "step {step:6d}  loss {loss:.3f}  validation Dice {validation_dice:.3f}"
    run = _run(options.run, options.reports)
    parameters = chosen(options.notebooks / "02_training.ipynb", options.set, run)
    if is_first():
        print(f"{parameters['steps']} steps from {parameters['start_from'] or 'random weights'}", flush=True)
    history = train_run(run, parameters, lambda row: print(line.format(**row), flush=True))
    if is_first():
        print(f"best validation Dice {history['validation_dice'].max():.3f}: {run / 'model'}")
    return 0


def _ensemble(options: argparse.Namespace) -> int:
    from ich.trained import ensemble

    runs = [_run(run, options.reports) for run in options.runs]
    print(f"{len(runs)} networks, validation Dice {ensemble(runs, options.out):.3f}: {options.out}")
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from ich.pretrain import RECIPE, SETTINGS, pretrain

    seen = {"pixel_mm": options.pixel_mm, "size": options.network_size}
    settings = replace(SETTINGS, **{name: value for name, value in seen.items() if value is not None})
    recipe = replace(RECIPE, steps=options.steps, seed=options.seed, learning_rate=options.learning_rate)
    cache = options.cache or options.out / "cache"
    history = pretrain(
        options.out, cache, options.cases, options.validation_cases, recipe, options.seed, options.jobs, options.start,
        settings,
    )  # fmt: skip
    print(f"validation Dice {history['validation_dice'].max():.3f} (simulated cases): {options.out}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from ich.verify import verify

    found = verify(_run(options.run, options.reports))
    print(found)
    print(f"{options.run.name}: {f'{len(found.wrong)} discrepancies' if found.wrong else 'as its manifest says'}")
    return 1 if found.wrong else 0


def _archive(options: argparse.Namespace) -> int:
    from ich.archive import write_archive
    from ich.verify import verify_run

    if options.license and not options.license.startswith(("http://", "https://")):
        raise ValueError(f"--license {options.license}: wanted the address of a license, https://...")
    run = _run(options.run, options.reports)
    wrong = verify_run(run).wrong
    if wrong:
        raise ValueError(f"{run.name} is not as its manifest says, so it is not archived: {wrong[0]}")
    count = write_archive(run, options.out, options.license)
    print(f"{count} files, without scans, masks and weights: {options.out}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from ich.runs import describe
    from ich.study import read_profile

    print("profiles")
    for path in sorted((options.notebooks / "profiles").glob("*.yaml")):
        profile = read_profile(path.stem, options.notebooks)
        print(f"  {profile.name:12} {profile.title}: {', '.join(profile.notebooks)}")
    print("runs")
    for path in sorted(options.reports.glob("[!.]*/settings.yaml")):
        try:
            print(describe(path.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # a table saved by another program
            print(f"  {path.parent.name}: cannot be told ({type(error).__name__}: {error})")
    return 0


def _open(options: argparse.Namespace) -> int:
    import webbrowser

    page = _run(options.run, options.reports) / "html" / "index.html"
    if not page.is_file():
        raise FileNotFoundError(
            f"{options.run}: no finished report in {options.reports}; `ich list` tells what is there"
        )
    print(page)
    webbrowser.open(page.resolve().as_uri())
    return 0


def _help(options: argparse.Namespace) -> int:
    from ich.runs import parameters

    notebook = options.notebooks / f"{options.notebook}.ipynb"
    if not notebook.is_file():
        known = ", ".join(sorted(path.stem for path in options.notebooks.glob("*.ipynb")))
        raise FileNotFoundError(f"no notebook {options.notebook}; there are {known}")
    print(parameters(notebook))
    return 0


def _run(given: Path, reports: Path) -> Path:
    """A run, or archive of one, by its path or by its name in the folder of runs."""
    return given if given.exists() else reports / given


def _say_failures(failures) -> int:
    for row in failures.itertuples():
        print(f"{row.case_id}: {row.reason}", file=sys.stderr)
    return 1 if len(failures) else 0


def _write_json(content: dict, path: Path) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


COMMANDS = {
    "study": _study,
    "phantom": _phantom,
    "cohort": _cohort,
    "export": _export,
    "measure": _measure,
    "agree": _agree,
    "evaluate": _evaluate,
    "compare": _compare,
    "pool": _pool,
    "segment": _segment,
    "train": _train,
    "ensemble": _ensemble,
    "pretrain": _pretrain,
    "verify": _verify,
    "archive": _archive,
    "open": _open,
    "help": _help,
    "list": _list,
}


if __name__ == "__main__":
    sys.exit(main())
