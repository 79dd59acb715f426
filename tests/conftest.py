"""Fixtures shared by the tests."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from ich.pdf import find_browser

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("untimed", deadline=None)  # a slow machine is no counterexample
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests first: begun last, one process would work on them while the others have nothing left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def denormal_numbers():
    """Training and prediction switch them off for their process, which here goes on with other tests."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def held_by_another():
    """Context in which a process that calls itself 4711 holds a lock file; killed at the end, as a machine may stop."""
    hold = "import fcntl,sys;f=open(sys.argv[1],'w');f.write('4711');f.flush();fcntl.flock(f,2);print();input()"

    @contextmanager
    def held(lock: Path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", hold, str(lock)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            holder.stdout.readline()
            yield
            holder.kill()

    return held


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scans, masks and published tables beside the project; they are never part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real scans and masks are not at ../shared/data")
    return folder


@pytest.fixture(scope="session")
def chromium():
    """A headless browser: the machine's own Chromium, or the one that `playwright install chromium` puts beside it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as started:
        program = find_browser() or started.chromium.executable_path
        if not Path(program).is_file():
            pytest.skip("no Chromium on this machine")
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
