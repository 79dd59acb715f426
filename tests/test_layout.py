"""The house stays in order: who imports whom, one place for dependencies, no number in README without a table."""

import ast
import importlib.metadata
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ich import claims
from ich.provenance import as_committed

ROOT = Path(__file__).resolve().parents[1]

# A module imports only from modules before it.
ORDER = (ROOT / "ich" / "__init__.py").read_text().split("Modules, each importing only from those before it:")[-1]
MODULES = re.findall(r"^- (\w+):", ORDER, re.MULTILINE)


def test_every_module_has_its_place():
    assert sorted(MODULES) == sorted(path.stem for path in (ROOT / "ich").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_order(name):
    tree = ast.parse((ROOT / "ich" / f"{name}.py").read_text())
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "ich":
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ich."):
            used.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            used |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ich.")}
    later = [module for module in used if MODULES.index(module) >= MODULES.index(name)]
    assert not later, f"{name} imports {later}, which stand after it"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "cli"])
def test_modules_stay_small(name):
    lines = (ROOT / "ich" / f"{name}.py").read_text().count("\n")
    assert lines <= 420, f"{name} has {lines} lines: it may hold two ideas"


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]


def locked():
    """Pins of requirements.txt by name: where versions of Python differ there are several."""
    text = (ROOT / "requirements.txt").read_text().replace("\\\n", " ")
    pins: dict[str, list] = {}
    for line in text.splitlines():
        pin, *hashes = line.split("--hash=sha256:")
        assert hashes, f"{pin} has no hash"
        requirement = Requirement(pin)
        pins.setdefault(canonicalize_name(requirement.name), []).append(next(iter(requirement.specifier)))
    return pins


def test_every_dependency_is_locked_with_hashes_within_its_range():
    pins = locked()
    torch = re.search(r"^TORCH \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    pins["torch"] = list(Requirement(torch.group(1)).specifier)
    for requirement in requirements():
        for pin in pins[canonicalize_name(requirement.name)]:
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version), f"{requirement}: locked to {pin.version}"


def test_installed_versions_satisfy_the_project():
    for requirement in requirements():
        version = importlib.metadata.version(requirement.name)
        assert requirement.specifier.contains(version.split("+")[0]), f"{requirement}: {version} is installed"


def test_conda_environment_takes_its_dependencies_from_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [Requirement(entry) for entry in environment["dependencies"] if isinstance(entry, str)]
    pip = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert [entry.name for entry in conda] == ["python", "pip"]
    assert pip == [["-e .[dev]"]]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == ">=3.11"
    assert conda[0].specifier.contains("3.11")
    assert not conda[0].specifier.contains("3.10")


def test_readme_numbers_stand_in_the_demo_tables():
    """README marks each number as `<!-- table:column:row key -->number`; the table must hold it."""
    folder = ROOT / "reports" / "demo" / "tables"
    if not as_committed(folder):
        pytest.skip("the demo was made again here, and README quotes the committed one")
    quoted, wrong = claims.of_text((ROOT / "README.md").read_text(), folder)
    assert quoted > 20
    assert wrong == []


@pytest.mark.parametrize("script", sorted((ROOT / "tests" / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_measurement_still_finds_what_it_imports(script, monkeypatch):
    """Nothing else runs them between two measurements."""
    monkeypatch.syspath_prepend(script.parent)
    assert runpy.run_path(str(script))["__doc__"]
