"""The PDF of a page: printed where there is a Chromium, left out with a reason elsewhere."""

import pytest

from ich import pdf, report
from ich.front_page import index_html

PAGE = "<!DOCTYPE html><html lang='en'><head><title>x</title></head><body><h1>Agreement</h1></body></html>"


def test_a_page_is_printed(tmp_path):
    if pdf.find_browser() is None:
        pytest.skip("no Chromium on this machine")
    (tmp_path / "index.html").write_text(PAGE)
    assert pdf.print_pdf(tmp_path / "index.html", tmp_path / "report.pdf") == ""
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_without_a_browser_the_reason_is_said_and_no_old_file_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "report.pdf").write_text("of an earlier run")
    assert pdf.print_pdf(tmp_path / "index.html", tmp_path / "report.pdf") == "no Chromium on this machine"
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [("exit 3", "chromium ended with status 3 and wrote no PDF"), ("sleep 5", "chromium did not finish within 1 s")],
)
def test_a_browser_that_fails_or_hangs_stops_nothing(tmp_path, monkeypatch, script, said):
    program = tmp_path / "chromium"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(pdf, "TIMEOUT_S", 1)
    assert pdf.print_pdf(tmp_path / "index.html", tmp_path / "report.pdf") == said


def test_the_page_links_its_pdf_only_where_it_is(tmp_path, monkeypatch, capsys):
    (tmp_path / "tables").mkdir()
    manifest = {"run": "x", "title": "T", "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:05:00+00:00"}
    manifest |= {"code": {"commit": None, "dirty": None}, "machine": {}, "packages": {}, "notebooks": {}}
    manifest |= {"left_out": {}, "tables": {}}
    assert 'href="report.pdf"' in index_html(tmp_path, manifest, pdf=True)
    monkeypatch.setattr(report, "print_pdf", lambda page, out: "no Chromium on this machine")
    page = report.write_report(tmp_path, manifest).read_text()
    assert "report.pdf is left out: no Chromium on this machine" in capsys.readouterr().out
    assert "report.pdf" not in page
