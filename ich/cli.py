"""The command line: reads arguments, calls one function of the package, says what happened."""

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from ich.atomic import write_text
from ich.cluster import SCHEDULER
from ich.jobqueue import scheduler

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run `ich`; 0 done, 1 a study or some of the files failed, 2 wrong input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        _check_output(options)
        with scheduler(getattr(options, "scheduler", None)) as address:
            if address:
                os.environ[SCHEDULER] = address  # the kernels of notebooks inherit it
            return options.command(options)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ich", description="Study workbook for intracerebral hemorrhage on CT.")
    commands = parser.add_subparsers(metavar="command", required=True, dest="name_of_command")

    def command(name, function, text):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=function)
        return added

    study = command("study", _study, "run the notebooks of a profile into a run folder with a report")
    study.add_argument("profile", nargs="?", default="demo", help="profile, by name or YAML file (default: demo)")
    study.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a parameter")
    study.add_argument("--name", help="name of the run (default: the profile's)")
    study.add_argument("--title", help="of the report (default: the profile's)")
    study.add_argument("--until", metavar="NOTEBOOK", help="stop after this notebook; --resume continues")
    again = study.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue after the last finished notebook")
    again.add_argument("--overwrite", action="store_true", help="remove an existing run of this name first")
    study.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")
    study.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="notebooks and profiles")

    phantom = command("phantom", _phantom, "write simulated head CT with bleeds of known volume")
    phantom.add_argument("--n", type=int, required=True, help="number of cases")
    phantom.add_argument("--seed", type=int, default=2019, help="seed of the cohort (default: 2019)")
    phantom.add_argument("--out", type=Path, required=True, help="folder to write")
    phantom.add_argument("--size", type=int, default=256, help="pixels on a side (default: 256)")
    phantom.add_argument("--jobs", type=int, default=-1, help="worker processes, -1 for one per core")

    cohort = command("cohort", _cohort, "a dataset's scans and masks to a checked cohort with its report")
    cohort.add_argument("kind", nargs="?", metavar="KIND", help="layout of the dataset; without it all are listed")
    cohort.add_argument(
        "root", nargs="?", metavar="ROOT", help="folder of the dataset, or a manifest CSV; or its address"
    )
    cohort.add_argument("--out", type=Path, metavar="DIR", help="run folder to write")
    cohort.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a parameter of 01_cohort")
    cohort.add_argument("--overwrite", action="store_true", help="remove an existing run there first")

    export = command("export", _export, "a run's cohort and splits as an nnU-Net dataset")
    export.add_argument("run", type=Path, metavar="RUN", help="run folder")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="nnUNet_raw folder to write into")

    measure = command("measure", _measure, "volume and ABC/2 of masks, one row each")
    measure.add_argument("masks", nargs="+", metavar="MASK", help="NIfTI mask, or its address")
    measure.add_argument("--out", type=Path, required=True, help="table to write (CSV)")
    measure.add_argument("--jobs", type=int, default=-1, help="worker processes, -1 for one per core")

    agree = command("agree", _agree, "agreement of two columns of a table, method - reference")
    agree.add_argument("table", type=Path, help="CSV with one row per case")
    agree.add_argument("--reference", required=True, metavar="COL", help="column of reference volumes, ml")
    agree.add_argument("--method", required=True, metavar="COL", help="column of the method's volumes, ml")
    agree.add_argument("--patient", metavar="COL", help="column of patients (default: patient_id, where there is one)")
    agree.add_argument("--margin-ml", type=float, default=5.0, help="difference that changes no treatment (default: 5)")
    agree.add_argument("--margin-percent", type=float, default=20.0, help="the same in percent (default: 20)")
    agree.add_argument("--out", type=Path, required=True, help="result to write (JSON)")

    evaluate = command("evaluate", _evaluate, "report of predicted masks against reference masks of the same names")
    evaluate.add_argument("--reference", required=True, metavar="DIR", help="reference masks")
    evaluate.add_argument("--prediction", required=True, metavar="DIR", help="predicted masks")
    evaluate.add_argument("--cohort", type=Path, help="CSV with case_id, patient_id, hemorrhage_type")
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder to write")
    evaluate.add_argument("--overwrite", action="store_true", help="remove an existing run there first")
    evaluate.add_argument("--jobs", type=int, default=-1, help="worker processes, -1 for one per core")

    comparing = command("compare", _compare, "several finished runs in one report, paired on the cases they share")
    comparing.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    comparing.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    comparing.add_argument("--method", default="network_ml", metavar="COL", help="volume column (default: network_ml)")
    comparing.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    segment = command("segment", _segment, "one scan to mask, case.json and case.html (research use only)")
    segment.add_argument(
        "scan", nargs="+", metavar="SCAN", help="NIfTI file, DICOM folder, or folder of them; or its address"
    )
    segment.add_argument("--series", metavar="NAME", help="which of several DICOM series of the scan, such as 2a")
    segment.add_argument("--earlier", metavar="SCAN", help="an earlier scan of the patient, to compare with")
    segment.add_argument("--earlier-series", metavar="NAME", help="which of several DICOM series of the earlier scan")
    segment.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    segment.add_argument(
        "--weights", type=Path, metavar="DIR", help="model folder of a run (default: the weights that ich ships)"
    )
    segment.add_argument("--device", default="auto", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    segment.add_argument("--resume", action="store_true", help="take up what an interrupted call with these scans did")
    segment.add_argument("--jobs", type=int, default=-1, help="processes for several scans (default: one per core)")

    training = command("train", _train, "train the network of a run without its notebook; torchrun shares the work")
    training.add_argument("run", type=Path, metavar="RUN", help="run folder that 01_cohort has filled")
    training.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of 02_training")
    training.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="notebooks and profiles")

    joining = command("ensemble", _ensemble, "networks of several runs as one model folder, for segment --weights")
    joining.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    joining.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write")
    joining.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    pretrain = command("pretrain", _pretrain, "make the shipped weights again: simulate thousands of scans and train")
    pretrain.add_argument("--cases", type=int, default=1000, help="simulated training cases (default: 1000)")
    pretrain.add_argument("--validation-cases", type=int, default=80, help="simulated cases to choose the step on")
    pretrain.add_argument("--steps", type=int, default=11000, help="optimizer steps (default: 11000)")
    pretrain.add_argument("--seed", type=int, default=1, help="seed of cases, weights and order (default: 1)")
    pretrain.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write")
    pretrain.add_argument("--learning-rate", type=float, default=3e-3, help="highest learning rate (default: 0.003)")
    pretrain.add_argument(
        "--start", type=Path, metavar="DIR", help="model folder whose weights the training goes on from"
    )
    pretrain.add_argument("--pixel-mm", type=float, metavar="MM", help="in-plane pixel of the network (default: 1.125)")
    pretrain.add_argument("--network-size", type=int, metavar="N", help="pixels on a side (default: 192)")
    pretrain.add_argument("--cache", type=Path, metavar="DIR", help="rendered cases, kept (default: OUT/cache)")
    pretrain.add_argument("--jobs", type=int, default=-1, help="worker processes and threads, -1 for one per core")

    verifying = command("verify", _verify, "check a run or its archive: hashes, tables, notebooks, pages, figures")
    verifying.add_argument("run", type=Path, metavar="RUN", help="run folder, name of a run in reports, or zip")
    verifying.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    archiving = command(
        "archive", _archive, "a finished run as a zip with RO-Crate metadata, without scans and weights"
    )
    archiving.add_argument("run", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    archiving.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="archive to write")
    archiving.add_argument("--license", default="", metavar="URL", help="license under which the run is given away")
    archiving.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    opening = command("open", _open, "show the report of a run in the browser")
    opening.add_argument("run", metavar="RUN", help="name of the run")
    opening.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    explaining = command("help", _help, "the parameters of a notebook: type, default, meaning")
    explaining.add_argument("notebook", metavar="NOTEBOOK", help="such as 04_agreement")
    explaining.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="notebooks and profiles")

    listing = command("list", _list, "profiles, and runs with their headline figures")
    listing.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")
    listing.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="notebooks and profiles")
    for name in ("study", "cohort", "phantom", "measure", "evaluate", "segment"):
        commands.choices[name].add_argument(
            "--scheduler",
            metavar="ADDRESS",
            help="Dask scheduler whose workers do per-case work, tcp://HOST:PORT; or a YAML file of jobs to ask for",
        )
    return parser


def _check_output(options: argparse.Namespace) -> None:
    """Refuse a table or JSON file that would take the place of an input, or whose name is of another kind."""
    ending = {"measure": ".csv", "agree": ".json"}.get(options.name_of_command)
    if ending is None:
        return
    inputs = options.masks if options.name_of_command == "measure" else [options.table]
    if options.out.resolve() in {Path(str(given)).resolve() for given in inputs}:
        raise ValueError(f"--out {options.out} is an input and would be overwritten: choose another file")
    if options.out.suffix.lower() != ending:
        raise ValueError(f"--out {options.out}: wanted a file that ends in {ending}, which is what is written")


def _study(options: argparse.Namespace) -> int:
    from ich.notebook import NotebookFailed
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
    from ich import tables
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
            shutil.rmtree(out)
            raise ValueError(said) from None
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"Report: {index}")
    return _say_failures(tables.read(out / "tables" / "exclusions.csv"))


def _export(options: argparse.Namespace) -> int:
    from ich.nnunet import export

    folder = export(options.run, options.out)
    print(f"{folder}; splits_final.json belongs into nnUNet_preprocessed/{folder.name}")
    return 0


def _measure(options: argparse.Namespace) -> int:
    from ich.measure import measure_masks
    from ich.remote import local
    from ich.tables import write_plain

    table, failures = measure_masks([local(mask) for mask in options.masks], options.jobs)
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
    result = panel(table, options.method, options.reference, patient=patient, **margins)
    for column in (options.method, options.reference):
        if (below := table[column] < 0).any():
            row = int(below.argmax())
            raise ValueError(
                f"{column}: row {row + 2} of the table is {table[column][row]:g}, wanted volumes of 0 or more"
            )
    _write_json(result, options.out)
    lacking = f"; {result['n_missing']} rows lack a volume" if result["n_missing"] else ""
    whose = (
        f" of {result['n_patients']} patients" if patient else ", each row taken for a patient (--patient names them)"
    )
    limits = f"limits of agreement {result['loa_lower']:.2f} to {result['loa_upper']:.2f} ml"
    print(f"n {result['n']}{whose}; bias {result['bias']:.2f} ml, {limits}{lacking}: {options.out}")
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

    folders = [run if run.is_dir() else options.reports / run for run in options.runs]
    found = compare(read_runs(folders), options.method)
    print(f"{len(found.runs)} runs, {len(found.cases)} shared cases: {write_comparison(found, options.out)}")
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
    from ich.notebook import chosen
    from ich.trained import train_run

    line = "step {step:6d}  loss {loss:.3f}  validation Dice {validation_dice:.3f}"
    parameters = chosen(options.notebooks / "02_training.ipynb", options.set)
    history = train_run(options.run, parameters, lambda row: print(line.format(**row), flush=True))
    if os.environ.get("RANK", "0") == "0":
        print(f"best validation Dice {history['validation_dice'].max():.3f}: {options.run / 'model'}")
    return 0


def _ensemble(options: argparse.Namespace) -> int:
    from ich.trained import ensemble

    runs = [run if run.is_dir() else options.reports / run for run in options.runs]
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

    found = verify(options.run if options.run.exists() else options.reports / options.run)
    print(found)
    print(f"{options.run.name}: {f'{len(found.wrong)} discrepancies' if found.wrong else 'as its manifest says'}")
    return 1 if found.wrong else 0


def _archive(options: argparse.Namespace) -> int:
    from ich.archive import write_archive
    from ich.verify import verify_run

    run = options.run if options.run.is_dir() else options.reports / options.run
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
    for path in sorted(options.reports.glob("*/settings.yaml")):
        try:
            print(describe(path.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # a table saved by another program
            print(f"  {path.parent.name}: cannot be told ({type(error).__name__}: {error})")
    return 0


def _open(options: argparse.Namespace) -> int:
    import webbrowser

    page = options.reports / options.run / "html" / "index.html"
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


def _say_failures(failures) -> int:
    for row in failures.itertuples():
        print(f"{row.case_id}: {row.reason}", file=sys.stderr)
    return 1 if len(failures) else 0


def _write_json(content: dict, path: Path) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
