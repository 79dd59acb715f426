"""What is in a folder of runs: state, parameters that differ from the notebooks', headline figures."""

import json
import textwrap
from pathlib import Path

import pandas as pd
import yaml

from ich.notebook import declared


def describe(run: Path) -> str:
    """A run in a few lines: name, state, when, what was set, cases, Dice, bias of the network."""
    settings = yaml.safe_load((run / "settings.yaml").read_text(encoding="utf-8"))
    manifest = run / "manifest.json"
    finished = manifest.is_file()
    state = f"finished {json.loads(manifest.read_text())['ended'][:16].replace('T', ' ')}" if finished else "unfinished"
    lines = [f"{run.name}: {settings['title']}, {state}"]
    chosen = [f"{name}={value}" for name, value in _set(settings["parameters"]).items()]
    lines += [f"set {', '.join(chosen)}"] if chosen else []
    lines += [text for text in (_cases(run), _dice(run), _bias(run)) if text]
    return "\n".join([f"  {lines[0]}", *(f"    {line}" for line in lines[1:])])


def _set(parameters: dict[str, dict]) -> dict[str, object]:
    """What tells this run from the next: its data and how they were split and learned."""
    data = ("source", "root", "masks", "images", "manifest", "volumes", "predictions", "model_from", "n_cases")
    names = (*data, "steps", "split_rule")
    given = {name: value for chosen in parameters.values() for name, value in chosen.items()}
    found = {name: given[name] for name in names if name in given}
    outside = any(found.get(name) for name in ("source", "masks", "manifest"))
    return {name: value for name, value in found.items() if value != "" and not (name == "n_cases" and outside)}


def _table(run: Path, name: str) -> pd.DataFrame | None:
    path = run / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else None


def _cases(run: Path) -> str | None:
    cohort, splits = _table(run, "cohort"), _table(run, "splits")
    if cohort is None:
        return None
    parts = "" if splits is None else ", ".join(f"{n} {name}" for name, n in splits["split"].value_counts().items())
    return f"{int(cohort['included'].sum())} of {len(cohort)} cases" + (f": {parts}" if parts else "")


def _dice(run: Path) -> str | None:
    table = _table(run, "dice_by_type")
    if table is None:
        return None
    rows = table[(table["reader"] == "network") & table["mean"].notna()]
    return "Dice " + ", ".join(f"{row.hemorrhage_type} {row.mean:.2f} (n = {row.n})" for row in rows.itertuples())


def _bias(run: Path) -> str | None:
    table = _table(run, "agreement_summary")
    if table is None:
        return None
    return "bias and limits, ml: " + "; ".join(
        f"{row.method} {row.bias:.1f} ({row.loa_lower:.1f} to {row.loa_upper:.1f})" for row in table.itertuples()
    )


def parameters(notebook: Path) -> str:
    """The parameters of a notebook: name, type, default, and the meaning its own comment gives."""
    lines = []
    for name, parameter in declared(notebook).items():
        default = '""' if parameter.default == "" else parameter.default
        lines.append(f"{name} ({parameter.kind}, default {default})")
        lines += textwrap.wrap(parameter.meaning, 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
