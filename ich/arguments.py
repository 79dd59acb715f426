"""The arguments of every command."""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _jobs(text: str) -> int:
    number = int(text)
    if number == 0 or number < -1:
        raise argparse.ArgumentTypeError(f"{number}: wanted -1 for one per core, or 1 or more")
    return number


def parser() -> argparse.ArgumentParser:
    """Of all commands; what it finds has `name_of_command`."""
    whole = argparse.ArgumentParser(prog="ich", description="Study workbook for intracerebral hemorrhage on CT.")
    commands = whole.add_subparsers(metavar="command", required=True, dest="name_of_command")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    study = command("study", "run the notebooks of a profile into a run folder with a report")
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

    phantom = command("phantom", "write simulated head CT with bleeds of known volume")
    phantom.add_argument("--n", type=int, required=True, help="number of cases")
    phantom.add_argument("--seed", type=int, default=2019, help="seed of the cohort (default: 2019)")
    phantom.add_argument("--out", type=Path, required=True, help="folder to write")
    phantom.add_argument("--size", type=int, default=256, help="pixels on a side (default: 256)")
    phantom.add_argument("--jobs", type=_jobs, default=-1, help="worker processes, -1 for one per core")

    cohort = command("cohort", "a dataset's scans and masks to a checked cohort with its report")
    cohort.add_argument("kind", nargs="?", metavar="KIND", help="layout of the dataset; without it all are listed")
    cohort.add_argument(
        "root", nargs="?", metavar="ROOT", help="folder of the dataset, or a manifest CSV; or its address"
    )
    cohort.add_argument("--out", type=Path, metavar="DIR", help="run folder to write")
    cohort.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a parameter of 01_cohort")
    cohort.add_argument("--overwrite", action="store_true", help="remove an existing run there first")

    export = command("export", "a run's cohort and splits as an nnU-Net dataset")
    export.add_argument("run", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    export.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="nnUNet_raw folder to write into")

    measure = command("measure", "volume and ABC/2 of masks, one row each")
    measure.add_argument("masks", nargs="+", metavar="MASK", help="NIfTI mask, or its address")
    measure.add_argument("--out", type=Path, required=True, help="table to write (CSV)")
    measure.add_argument("--jobs", type=_jobs, default=-1, help="worker processes, -1 for one per core")

    agree = command("agree", "agreement of columns of a table, method - reference")
    agree.add_argument("table", type=Path, help="CSV with one row per case")
    agree.add_argument("--reference", required=True, metavar="COL", help="column of reference volumes, ml")
    agree.add_argument(
        "--method",
        action="append",
        required=True,
        metavar="COL",
        help="column of a method's volumes, ml; may be repeated",
    )
    agree.add_argument("--patient", metavar="COL", help="column of patients (default: patient_id, where there is one)")
    agree.add_argument("--margin-ml", type=float, default=5.0, help="difference that changes no treatment (default: 5)")
    agree.add_argument("--margin-percent", type=float, default=20.0, help="the same in percent (default: 20)")
    agree.add_argument("--out", type=Path, required=True, help="result to write (JSON)")

    evaluate = command("evaluate", "report of predicted masks against reference masks of the same names")
    evaluate.add_argument("--reference", required=True, metavar="DIR", help="reference masks")
    evaluate.add_argument("--prediction", required=True, metavar="DIR", help="predicted masks")
    evaluate.add_argument(
        "--cohort", type=Path, help="CSV with case_id, patient_id, hemorrhage_type, site, second_mask, ..."
    )
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder to write")
    evaluate.add_argument("--overwrite", action="store_true", help="remove an existing run there first")
    evaluate.add_argument("--jobs", type=_jobs, default=-1, help="worker processes, -1 for one per core")

    comparing = command("compare", "several finished runs in one report, paired on the cases they share")
    comparing.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    comparing.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    comparing.add_argument("--method", default="network_ml", metavar="COL", help="volume column (default: network_ml)")
    comparing.add_argument(
        "--label",
        default="blood",
        choices=["blood", "parenchymal", "ventricular", "subarachnoid"],
        help="compare all blood (default), or one label in every case that has it",
    )
    comparing.add_argument("--by", default="", metavar="COL", help="columns of cohort.csv to tell apart by, by comma")
    comparing.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    pooling = command("pool", "the folds of a cross-validation in one report")
    pooling.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    pooling.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder to write, a new one")
    pooling.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a parameter of 03 or 04")
    pooling.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    segment = command("segment", "one scan to mask, case.json and case.html (research use only)")
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
    segment.add_argument("--jobs", type=_jobs, default=-1, help="processes for several scans (default: one per core)")

    training = command("train", "train the network of a run without its notebook; torchrun shares the work")
    training.add_argument(
        "run", type=Path, metavar="RUN", help="run folder that 01_cohort has filled, or its name in reports"
    )
    training.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of 02_training")
    training.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")
    training.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="notebooks and profiles")

    joining = command("ensemble", "networks of several runs as one model folder, for segment --weights")
    joining.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    joining.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder to write")
    joining.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    pretrain = command("pretrain", "make the shipped weights again: simulate thousands of scans and train")
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
    pretrain.add_argument("--jobs", type=_jobs, default=-1, help="worker processes and threads, -1 for one per core")

    verifying = command("verify", "check a run or its archive: hashes, tables, notebooks, pages, figures")
    verifying.add_argument("run", type=Path, metavar="RUN", help="run folder, name of a run in reports, or zip")
    verifying.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    archiving = command("archive", "a finished run as a zip with RO-Crate metadata, without scans and weights")
    archiving.add_argument("run", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    archiving.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="archive to write")
    archiving.add_argument("--license", default="", metavar="URL", help="license under which the run is given away")
    archiving.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    opening = command("open", "show the report of a run in the browser")
    opening.add_argument("run", type=Path, metavar="RUN", help="run folder, or name of a run in reports")
    opening.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")

    explaining = command("help", "the parameters of a notebook: type, default, meaning")
    explaining.add_argument("notebook", metavar="NOTEBOOK", help="such as 04_agreement")
    explaining.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="notebooks and profiles")

    listing = command("list", "profiles, and runs with their headline figures")
    listing.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of runs")
    listing.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="notebooks and profiles")
    for name in ("study", "cohort", "phantom", "measure", "evaluate", "segment"):
        commands.choices[name].add_argument(
            "--scheduler",
            metavar="ADDRESS",
            help="Dask scheduler whose workers do per-case work, tcp://HOST:PORT; or a YAML file of jobs to ask for",
        )
    return whole
