"""One notebook: the parameters it declares, their check, and its run in a kernel of this very interpreter."""

import ast
import difflib
import hashlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.translators import PythonTranslator

from ich.atomic import replacing

KINDS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
ANSI = re.compile(r"\x1b\[[0-9;]*m")
CELL_FILE = re.compile(r"\S*ipykernel_\d+/\d+\.py")  # file of a cell, as warnings name it
LONGEST_SOCKET_FOLDER = 80  # the system allows a socket about 100 characters
MACHINE_METADATA = ("papermill", "widgets", "execution")
LAST_LINES = 12  # of an error, in the message
PACKAGE = Path(__file__).parent
FRAME = re.compile(r"^File (.+?):\d+", re.MULTILINE)  # of IPython's tracebacks
ARROW = re.compile(r"^-+> +\d+ +(.*)", re.MULTILINE)
STDERR = "stderr"


class NotebookFailed(RuntimeError):
    """A notebook stopped; the message names it, the cell and the error, with its last lines where it was not foreseen.

    `reason` is the error alone.
    """

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


class LeftOut(RuntimeError):
    """Raised in a cell: the notebook has nothing to say about these cases, the message says why; a study goes on."""


@dataclass(frozen=True)
class Parameter:
    """One name of a notebook's parameters cell."""

    name: str
    kind: str  # key of KINDS
    default: object
    meaning: str = ""  # the comment beside it

    def parse(self, text: str) -> object:
        """Value of `text`, as given on a command line, in the declared type."""
        if self.kind == "str":
            return text
        if self.kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            if self.kind in ("int", "float"):
                return KINDS[self.kind](text)
            return self.check(yaml.safe_load(text))
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{self.name}={text}: wanted {self.wanted}") from error

    def check(self, value: object) -> object:
        """`value` itself, an int made float where a float is declared; ValueError for another type."""
        if self.kind == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, KINDS[self.kind]) and not (self.kind == "int" and isinstance(value, bool)):
            return value
        raise ValueError(f"{self.name}: {value!r} is {type(value).__name__}, wanted {self.wanted}")

    @property
    def wanted(self) -> str:
        """The declared type and an example, for error messages."""
        choices = "true or false" if self.kind == "bool" else self.kind
        return f"{choices} (the default is {self.default!r})"


def declared(path: Path) -> dict[str, Parameter]:
    """Parameters of a notebook's parameters cell, in its order.

    Raises
    ------
    ValueError
        A default that is no literal, a type that is none of `KINDS`, or a line that papermill cannot read: it
        leaves out, with a line in the log, what has a `=` in its comment or text.
    """
    found = {}
    for name, entry in papermill.inspect_notebook(str(path)).items():
        try:
            default = ast.literal_eval(entry["default"])
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{path.stem}: the default of {name} is no plain value: {entry['default']}") from error
        stated = entry["inferred_type_name"]
        kind = type(default).__name__ if stated in (None, "None") else stated.split("[")[0]
        if kind not in KINDS:
            raise ValueError(f"{path.stem}: {name} is declared {kind}; a parameter is one of {', '.join(KINDS)}")
        found[name] = Parameter(name, kind, default, entry["help"] or "")
    missed = [name for name in _assigned(path) if name not in found]
    if missed:
        raise ValueError(
            f"{path.stem}: {', '.join(missed)} cannot be read from the parameters cell; "
            "wanted name: type = value  # a comment without ="
        )
    return found


def chosen(path: Path, settings: list[str], run: Path) -> dict[str, object]:
    """Every parameter of a notebook as a run has it, or else its default, or what one of the `key=value` texts says.

    Raises
    ------
    ValueError
        A text without "=", a name that the notebook does not declare, a value of another type, or a path that the run
        does not tell.
    """
    known = declared(path)
    values = {name: parameter.default for name, parameter in known.items()}
    values |= {name: value for name, value in _of_run(run, path).items() if name in known}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: wanted key=value")
        if key not in known:
            raise unknown(key, list(known), "parameter")
        values[key] = known[key].parse(value)
    if str(values.get("start_from", "")).startswith("…"):
        raise ValueError(
            f"start_from: {run.name} keeps no more of its path than {values['start_from']}: --set it again"
        )
    return values


def _of_run(run: Path, notebook: Path) -> dict[str, object]:
    """The parameters of a notebook that a study has stored."""
    try:
        stored = yaml.safe_load((run / "settings.yaml").read_text(encoding="utf-8"))["parameters"][notebook.stem]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return {}
    start = stored.get("start_from")
    # A stored path is from the folder of notebooks, as the kernel got it.
    return stored | ({"start_from": os.path.normpath(notebook.parent / start)} if start and start[0] != "…" else {})


def _assigned(path: Path) -> list[str]:
    """Names that the parameters cell of a notebook gives a value."""
    cells = nbformat.read(path, as_version=4).cells
    source = next((cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])), "")
    statements = ast.parse(source).body
    targets: list[ast.expr] = [node.target for node in statements if isinstance(node, ast.AnnAssign)]
    targets += [target for node in statements if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def unknown(name: str, known: list[str], what: str) -> ValueError:
    """The error for a name that nothing declares: nearest names first, then all of them."""
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return ValueError(f"no {what} is called {name!r}{hint}. All: {', '.join(known) or 'none'}")


def fingerprint(path: Path, parameters: dict) -> str:
    """SHA-256 of a notebook's cells, outputs aside, and of the parameters it is run with."""
    cells = [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]
    return hashlib.sha256(json.dumps([cells, parameters], sort_keys=True).encode()).hexdigest()


class _Kernel(AsyncKernelManager):
    """Kernel of the running interpreter: a kernelspec in the user's home must not bring another Python."""

    folder = ""  # an empty one, so that no startup file or setting of the user's takes part

    def __init__(self, **options):
        # Sockets in a folder of one's own: other users of the machine cannot listen, as they could on TCP.
        transport = "ipc" if len(self.folder) <= LONGEST_SOCKET_FOLDER else "tcp"
        super().__init__(**options, transport=transport, connection_file=os.path.join(self.folder, "kernel.json"))

    async def start_kernel(self, **options) -> None:  # type: ignore[override]
        # What the kernel process says is shown only if it dies; IPython calls each interruption an error.
        with open(os.path.join(self.folder, STDERR), "wb") as stderr:
            await super().start_kernel(**options, stderr=stderr)

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
            env={
                "IPYTHONDIR": self.folder,
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            },
        )


def execute(
    source: Path,
    target: Path,
    parameters: dict,
    shown: dict[str, str],
    on_cell: Callable[[int, int], None],
    timeout_s: int = 3600,
) -> int:
    """Run `source` in its own folder and store it, outputs included, at `target`.

    Parameters
    ----------
    shown : values as they may be stored, by the value as the kernel needs it (paths outside the project).
    on_cell : called with (number, count) as each code cell starts; numbers are those of `source`.
    timeout_s : longest time of one cell.

    Returns
    -------
    Number of cells.

    Raises
    ------
    NotebookFailed : the notebook up to the failing cell is at `target`.
    LeftOut : a cell raised it.
    """
    cells = [cell.id for cell in nbformat.read(source, as_version=4).cells]
    number = {name: place + 1 for place, name in enumerate(cells)}
    at = {"id": cells[0] if cells else "", "number": 1}

    def starting(cell, cell_index):
        if cell.id in number:
            at.update(id=cell.id, number=number[cell.id])
        on_cell(at["number"], len(cells))

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its errors are raised again below
    reason = ""
    with tempfile.TemporaryDirectory(prefix="ich-") as folder:
        try:
            papermill.execute_notebook(
                source,
                target,
                parameters,
                kernel_name="python3",
                cwd=source.parent,
                progress_bar=False,
                log_output=False,
                execution_timeout=timeout_s,
                kernel_manager_class=type("Kernel", (_Kernel,), {"folder": folder}),
                on_cell_execute=starting,
            )
        except PapermillExecutionError as error:
            trace = ANSI.sub("", "\n".join(error.traceback))
            reason = f"{error.ename}: {ANSI.sub('', error.evalue)}"
            if not _says_all(trace):
                reason += f"\n{_last_lines(trace)}"
        except DeadKernelError:
            said = _last_lines(Path(folder, STDERR).read_text(errors="replace"))
            reason = f"the kernel died; out of memory is the usual cause\n{said}".rstrip()
        except CellTimeoutError:
            reason = f"the cell took longer than {timeout_s} s (timeout_s of the profile)"
        except KeyboardInterrupt:
            # The cell's task is given up while it waits; asyncio would report that at exit.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise
    if reason.startswith(f"{LeftOut.__name__}: "):
        raise LeftOut(reason.partition(": ")[2].partition("\n")[0])
    if not reason:
        _strip(target, shown)
        return len(cells)
    if target.is_file():
        _strip(target, shown)
    raise NotebookFailed(
        f"{source.stem} failed in cell {at['number']} of {len(cells)} ({at['id']}): {reason}\n"
        f"notebook up to there: {target}",
        reason.strip(),
    )


def _says_all(trace: str) -> bool:
    """Whether the package raised an error on purpose: its message is for the reader, where it was raised is not."""
    files, lines = FRAME.findall(trace), ARROW.findall(trace)
    return bool(files and lines) and Path(files[-1]).parent == PACKAGE and lines[-1].startswith("raise ")


def _last_lines(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-LAST_LINES:])


def _strip(path: Path, shown: dict[str, str]) -> None:
    """Take from a stored notebook what belongs to this machine and this hour."""
    notebook = nbformat.read(path, as_version=4)
    for holder in (notebook, *notebook.cells):
        for name in MACHINE_METADATA:
            holder.metadata.pop(name, None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            for value, instead in shown.items():
                # As papermill has written it: letters beyond ASCII in its own way.
                written = PythonTranslator.translate(value)
                cell.source = cell.source.replace(written, json.dumps(instead, ensure_ascii=False))
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = CELL_FILE.sub("cell", output.text)
    with replacing(path) as part:
        nbformat.write(notebook, part)
