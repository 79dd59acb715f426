"""The readers of `fuzz_readers` under atheris: mutations that reach new code are kept and mutated on.

    PYTHONPATH=tests python -m fuzz.guided [INPUTS] [SEED] [OUT.csv]      # after fuzz_readers, whose table it extends

Each reader runs in a process of its own, as libFuzzer ends its process. It stops at the first finding, a hang over 5 s
or memory over 2 GB, and keeps that input in the folder that it names.
"""

import contextlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import atheris
import pandas as pd

with atheris.instrument_imports(include=["ich", "nibabel", "pydicom"]):
    from fuzz.fuzz_readers import LIMIT_S, judged, peak_mb, readers, versions

PEAK_MB = 2048
LONGEST = 8192  # bytes of an input


class Found(Exception):
    """Neither a result nor an error of the project's own kind."""


def run_reader(name: str, inputs: int, seed: int, work: Path) -> None:
    """Send `inputs` to one reader and write its counts to `work`/counts.json; ends the process."""
    warnings.simplefilter("ignore")
    reader = next(each for each in readers(work / "files") if each.name == name)
    for number, content in enumerate(reader.seeds):
        (work / "corpus" / str(number)).write_bytes(content)
    counts = {"inputs": 0, "accepted": 0, "refused": 0, "findings": 0, "longest_s": 0.0, "peak_mb": 0}

    def one(content: bytes) -> None:
        begun = time.perf_counter()
        verdict, found = judged(reader, work / "files", content)
        counts["inputs"] += 1
        counts["findings" if found else verdict] += 1
        counts["longest_s"] = max(counts["longest_s"], round(time.perf_counter() - begun, 3))
        if counts["inputs"] % 100 == 0 or counts["inputs"] >= inputs or found:
            counts["peak_mb"] = peak_mb()
            (work / "counts.json").write_text(json.dumps(counts))
        if found:
            raise Found(found)

    limits = [f"-runs={inputs}", f"-seed={seed}", f"-timeout={LIMIT_S:g}", f"-rss_limit_mb={PEAK_MB}"]
    atheris.Setup(
        [name, *limits, f"-max_len={LONGEST}", f"-artifact_prefix={work}/found-", "-verbosity=0", str(work / "corpus")],
        one,
    )
    atheris.Fuzz()


def main(total: int = 20_000, seed: int = 1, out: str = "reports/checks/fuzz.csv") -> int:
    """Run every reader that takes bytes, add its counts to the table; 1 if there are findings."""
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        chosen = [reader for reader in readers(Path(folder)) if reader.seeds != [b""]]
    for reader in chosen:
        work = Path(tempfile.mkdtemp(prefix="ich-fuzz-"))
        for part in ("files", "corpus"):
            (work / part).mkdir()
        count = round(total * reader.share / sum(each.share for each in chosen))
        command = [sys.executable, "-m", "fuzz.guided", "--reader", reader.name, str(count), str(seed), str(work)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        counts = {"inputs": 0, "findings": 1}
        with contextlib.suppress(FileNotFoundError):
            counts = json.loads((work / "counts.json").read_text())
        rows.append({"reader": reader.name, "mutations": f"atheris {importlib.metadata.version('atheris')}", **counts})
        print(rows[-1], flush=True)
        if done.returncode:
            failed += 1
            print(f"{reader.name}: input kept in {work}", done.stderr[-2000:], sep="\n")
    before = pd.read_csv(out) if Path(out).is_file() else pd.DataFrame()
    if len(before):
        before = before[before["mutations"] == "seeded"]
    about = {"seed": seed, "versions": versions()}
    pd.concat([before, pd.DataFrame(rows).assign(**about)]).to_csv(out, index=False)
    return 1 if failed else 0


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--reader"]:
        run_reader(given[1], int(given[2]), int(given[3]), Path(given[4]))
    else:
        sys.exit(main(*(int(text) for text in given[:2]), *given[2:3]))
