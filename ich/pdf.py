"""A page as PDF, printed by a headless Chromium where there is one."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT_S = 60  # a page takes seconds; a browser that hangs must not hold a study


def find_browser() -> str | None:
    """Path of a Chromium or Chrome, the first of `BROWSERS` that is installed."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def print_pdf(page: Path, out: Path) -> str:
    """Print `page` to `out`; returns why it could not be done, or an empty text. An older `out` is removed first."""
    out.unlink(missing_ok=True)
    browser = find_browser()
    if browser is None:
        return "no Chromium on this machine"
    with tempfile.TemporaryDirectory() as profile:
        options = [
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--no-pdf-header-footer",
            f"--user-data-dir={profile}",
            f"--print-to-pdf={out.resolve()}",
        ]
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # Chromium has none for the superuser, as in a container
        try:
            done = subprocess.run(
                [browser, *options, page.resolve().as_uri()], capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"{Path(browser).name} did not finish within {TIMEOUT_S} s"
        except OSError as error:
            return f"{Path(browser).name}: {error.strerror}"
    if done.returncode or not out.is_file():
        return f"{Path(browser).name} ended with status {done.returncode} and wrote no PDF"
    return ""
