"""The first hour in a real browser: from an empty database to a first PUE, by a file of two meters."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Running, running

sync_api = pytest.importorskip("playwright.sync_api", reason="install the development packages: make install")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 120_000.0
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent; install the package chromium"),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """A service on a database that is new and empty."""
    with tempfile.TemporaryDirectory(prefix="wattline-first-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        environment = {"WATTLINE_DATA_DIR": str(folder / "data")}
        with running(["serve", "--port", "0"], environment, folder) as process:
            process.until_status("/readyz", 200, 240)
            yield process


def a_day(path: Path) -> float:
    """A file with a day of two registers; the PUE that it means."""
    rows, at = ["Time,Main incomer kWh,UPS output kWh"], datetime(2026, 11, 20, tzinfo=UTC)
    main, ups = 100_000.0, 50_000.0
    for quarter in range(97):
        rows.append(f"{at + timedelta(minutes=15 * quarter):%Y-%m-%d %H:%M},{main:.1f},{ups:.1f}")
        main, ups = main + 14.0 + quarter % 3, ups + 11.0
    path.write_text("\n".join(rows) + "\n")
    last = [float(cell) for cell in rows[-1].split(",")[1:]]
    return (last[0] - 100_000.0) / (last[1] - 50_000.0)


def accessible(page: Any) -> None:
    found = axe.Axe().run(page).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"]) for v in found], page.url


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_from_nothing_to_a_first_pue(service: Running, script: bool, tmp_path: Path) -> None:
    wanted = a_day(tmp_path / "day.csv")
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(locale="en", java_script_enabled=script).new_page()
        page.set_default_timeout(PATIENCE_MS)
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        if script:
            _first_site(page, service.base, tmp_path / "day.csv", wanted)
        else:
            page.goto(service.base + "/start")  # there is a site file now: it is edited, not begun
            assert page.url.startswith(service.base + "/settings/site-file")
            text = page.input_value("textarea[name=text]")
            page.fill("textarea[name=text]", text.replace("rated_power_kw: 200.0", "rated_power_kw: 250.0"))
            page.click("text=Check and show the difference")
            sync_api.expect(page.locator("#difference")).to_contain_text("rated_power_kw: 250.0")
            page.fill("[name=note]", "new breaker")
            page.click("text=Apply")
            sync_api.expect(page.locator("main")).to_contain_text("is in force")
        assert not complaints
        browser.close()


def _first_site(page: Any, base: str, file: Path, wanted: float) -> None:
    page.goto(base + "/")
    page.click("text=Begin")
    accessible(page)
    page.fill("[name=institution]", "Bank of Testing")
    page.select_option("[name=institution_class]", "joint_stock")
    page.fill("[name=site]", "Pudong 1")
    page.press("[name=site]", "Enter")
    page.set_input_files("[name=file]", str(file))
    page.click("text=Read the columns")
    rows = page.locator("#found tbody tr")
    sync_api.expect(rows).to_have_count(2)
    accessible(page)
    assert page.input_value("[name='m.0.role']") == "facility"
    assert page.input_value("[name='m.1.role']") == "it_ups_output"
    assert page.input_value("[name='m.0.kind']") == "register"
    page.click("text=Next: what feeds what")
    accessible(page)
    assert page.input_value("[name='m.1.fed_by']") == "main-incomer"
    page.fill("[name='m.0.rated']", "200")
    page.click("text=Next: check and apply")
    sync_api.expect(page.locator("#difference")).to_contain_text("fed_by: [main-incomer]")
    accessible(page)
    page.click("button:has-text('Apply')")
    page.click("button:has-text('Import')")
    sync_api.expect(page.locator("#import-run")).to_contain_text("day.csv imported")
    page.click("text=PUE of all readings")
    sync_api.expect(page.locator("#first .big")).to_contain_text(f"{wanted:.3f}"[:4])
    sync_api.expect(page.locator("#first")).to_contain_text("Category 2 needs IT energy measured closer")
    accessible(page)
