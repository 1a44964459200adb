"""The pages of the demo in a real browser: live, accessible, silent on the console, no other host asked."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Running, running
from tests.waiting import until

sync_api = pytest.importorskip("playwright.sync_api", reason="install the development packages: make install")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 120_000.0
"""Longest time to wait for anything on a page: the machine may be busy."""
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent; install the package chromium"),
]

PATHS = (
    "/",
    "/sites/sh1?window=24h",
    "/sites/sh1?window=24h&compare=previous",
    "/sites/sh1/computed?window=24h",
    "/sites/sh1/trend?window=24h",
    "/sites/sh1/outlook",
    "/sites/sh1/capacity?window=24h&without=sh1-ups-b-out",
    "/sites/sh1/balance?window=24h&node=sh1-ups-a-in",
    "/?window=24h&compare=previous",
    "/sites/sh1/first",
    "/sites/sh1/flow?window=24h",
    "/docs",
    "/runbook",
    "/sites/sh1/indicators?window=24h",
    "/sites/sh1/opportunities",
    "/sites/sh1/savings",
    "/sites/sh1/costs?window=24h",
    "/sites/sh1/compliance?window=24h",
    "/sites/sh1/coverage?window=7d",
    "/sites/sh1/events",
    "/settings/keys",
    "/settings/sessions",
    "/settings/edges",
    "/settings/audit",
    "/settings/site-file",
    "/settings/site-file/keys?q=rated_power_kw",
    "/sites/sh1/meters",
    "/meters/sh1-utility-a?window=24h",
    "/sites/sh1/findings?state=all",
    "/sites/sh1/reports",
    "/sites/sh1/imports",
    "/alarms?state=all",
    "/?view=table&group=institution",
    "/wall",
    "/wall?mode=rotate",
    "/connect",
    "/sign-in",
    "/sites/none",
)
VISITORS = {
    "light, English, desktop": {"color_scheme": "light", "locale": "en", "width": 1360},
    "dark, Chinese, phone": {"color_scheme": "dark", "locale": "zh-CN", "width": 390},
}


ENGLISH = """() => {
  const said = [...document.querySelectorAll("[aria-label], [title], [placeholder]")].flatMap((e) =>
    ["aria-label", "title", "placeholder"].map((name) => e.getAttribute(name) || ""));
  const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    const node = nodes.currentNode;
    if (!node.parentElement.closest("pre, textarea, [lang=en]")) said.push(node.textContent);
  }
  return said.filter((text) => /[a-z]{2,} [a-z]{2,} [a-z]{2,}/i.test(text) && !/[\u4e00-\u9fff]/.test(text));
}"""
"""Texts of a page that are sentences, and nothing in them is Chinese; quotations say their language."""


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    """The demo with two days of history, once its figures are there."""
    with tempfile.TemporaryDirectory(prefix="wattline-web-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        environment = {"WATTLINE_DATA_DIR": str(folder / "data"), "WATTLINE_DEMO_DAYS": "2"}
        with running(["demo", "--no-browser", "--port", "0"], environment, folder) as process:
            until(lambda: "history is loaded" in process.log.read_text(), 240, "the history")
            until(lambda: ">1." in process.get("/").text, 240, "a PUE on the first page")
            yield process


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser."""
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(chromium: Any, base: str, look: dict[str, Any]) -> Iterator[tuple[Any, list[str]]]:
    """A page, and what was said on its console or asked of other hosts."""
    context = chromium.new_context(
        color_scheme=look["color_scheme"],
        locale=look["locale"],
        viewport={"width": look["width"], "height": 820},
    )
    context.set_default_timeout(PATIENCE_MS)
    page, complaints = context.new_page(), []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(base) else complaints.append(f"asked {r.url}"))
    yield page, complaints
    context.close()


@pytest.mark.parametrize("look", VISITORS.values(), ids=VISITORS.keys())
def test_every_page_is_accessible_quiet_and_fits(demo: Running, chromium: Any, look: dict[str, Any]) -> None:
    with visit(chromium, demo.base, look) as (page, complaints):
        for path in PATHS:
            page.goto(demo.base + path)
            page.wait_for_load_state("networkidle")
            found = axe.Axe().run(page).response["violations"]
            assert not [(v["id"], v["nodes"][0]["html"]) for v in found], path
            if look["locale"].startswith("zh"):
                assert not page.evaluate(ENGLISH), path
            for width in (320, 640, look["width"]):  # 640: a window of 1280 at 200 %
                page.set_viewport_size({"width": width, "height": 820})
                too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert too_wide <= 0, (path, width)
        assert all("404" in text for text in complaints), complaints  # the page that is not there


def test_live_parts_follow_and_rest_while_the_tab_is_hidden(demo: Running, chromium: Any) -> None:
    with visit(chromium, demo.base, VISITORS["light, English, desktop"]) as (page, _):
        page.goto(demo.base + "/sites/sh1/meters")
        page.evaluate("document.querySelector('#meters h2').textContent = 'old'")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        sync_api.expect(page.locator("#meters h2")).not_to_have_text("old")
        sync_api.expect(page.locator("#live-status")).to_contain_text("Live")
        page.route("**/meters*", lambda route: route.abort())
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        sync_api.expect(page.locator("#live-status")).to_contain_text("figures may be out of date")
        page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url))
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert not asked


def test_values_are_read_under_the_pointer_and_by_keys_and_dragging_zooms(
    demo: Running, chromium: Any
) -> None:
    with visit(chromium, demo.base, VISITORS["light, English, desktop"]) as (page, complaints):
        page.goto(demo.base + "/sites/sh1?window=24h")
        plots, said = page.locator("figure[data-plot]"), page.locator("figure[data-plot] .reading")
        plots.first.scroll_into_view_if_needed()
        box = plots.first.bounding_box()
        page.mouse.move(box["x"] + 400, box["y"] + 60)
        sync_api.expect(said.first).to_contain_text("PUE 1.")
        sync_api.expect(said.nth(1)).to_contain_text("IT")
        assert said.first.inner_text()[:16] == said.nth(1).inner_text()[:16]  # one time for all charts
        page.mouse.down()
        page.mouse.move(box["x"] + 700, box["y"] + 60, steps=4)
        with page.expect_navigation():
            page.mouse.up()
        assert "start=" in page.url
        assert "window=" not in page.url
        page.locator("figure[data-plot]").first.focus()
        page.keyboard.press("End")
        last = page.locator(".reading").first.inner_text()
        page.keyboard.press("ArrowLeft")
        sync_api.expect(page.locator(".reading").first).not_to_have_text(last)
        page.keyboard.press("Escape")
        sync_api.expect(page.locator(".reading").first).to_have_text("")
        with page.expect_navigation():
            page.click("#zoom-reset")
        assert page.url.endswith("?window=24h")
        assert not complaints


def test_the_pue_of_some_days_is_two_fields_and_one_click_away(demo: Running, chromium: Any) -> None:
    with visit(chromium, demo.base, VISITORS["light, English, desktop"]) as (page, complaints):
        page.goto(demo.base + "/")
        page.click("h2 a >> nth=0")
        page.click("#period-days summary")
        today = page.input_value("#period-days [name=last]")
        page.fill("#period-days [name=first]", today)
        with page.expect_navigation():
            page.press("#period-days [name=last]", "Enter")  # the keyboard submits, too
        assert f"start={today}&end=" in page.url
        sync_api.expect(page.locator("#period-figure small").first).to_contain_text(f"{today} 00:00")
        page.click("[rel=prev]")
        sync_api.expect(page.locator("#period-figure small").first).to_contain_text(f"to {today} 00:00")
        assert not complaints


def test_whether_the_other_ups_carries_all_and_that_a_meter_was_exchanged(
    demo: Running, chromium: Any
) -> None:
    with visit(chromium, demo.base, VISITORS["light, English, desktop"]) as (page, complaints):
        page.goto(demo.base + "/sites/sh1/capacity?window=24h")
        page.select_option("[name=without]", "sh1-ups-b-out")
        page.focus("#what-if button")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        sync_api.expect(page.locator("#what-if .note")).to_contain_text("The others carry all.")
        sync_api.expect(page.locator("#what-if dl")).to_contain_text("UPS A")
        page.goto(demo.base + "/meters/sh1-rack-101?window=24h")
        page.click("text=Declare an event")
        sync_api.expect(page.locator("#declare [name=meter]")).to_have_value("sh1-rack-101")
        yesterday = page.evaluate("new Date(Date.now() - 864e5).toISOString().slice(0, 16)")
        page.fill("#declare [name=start]", yesterday)
        page.fill("#declare [name=old_value]", "5000")
        page.fill("#declare [name=new_value]", "0")
        page.fill("#declare [name=note]", "exchanged by Li, work order 17")
        with page.expect_navigation():
            page.click("#declare button[type=submit]")
        sync_api.expect(page.locator("main")).to_contain_text("exchanged by Li, work order 17")
        with page.expect_navigation():
            page.click("tr:has-text('work order 17') >> text=Withdraw")
        sync_api.expect(page.locator("tr:has-text('work order 17')")).to_contain_text("withdrawn")
        assert not complaints


def test_a_colleague_gets_read_access_to_one_site(demo: Running, chromium: Any) -> None:
    with visit(chromium, demo.base, VISITORS["light, English, desktop"]) as (page, complaints):
        page.goto(demo.base + "/")
        page.click("footer >> text=Access keys")
        page.fill("[name=name]", "Wang")
        page.select_option("[name=scope]", "site/sh1")
        page.select_option("[name=days]", "30")
        with page.expect_navigation():
            page.press("[name=name]", "Enter")
        assert page.inner_text("#new-key").startswith("wl_")
        sync_api.expect(page.locator("tr:has-text('Wang')")).to_contain_text("viewer:site/sh1")
        page.on("dialog", lambda dialog: dialog.accept())
        with page.expect_navigation():
            page.click("tr:has-text('Wang') >> text=Revoke")
        sync_api.expect(page.locator("tr:has-text('Wang')")).to_contain_text("revoked")
        assert not complaints


def test_theme_language_and_period_are_kept(demo: Running, chromium: Any) -> None:
    with visit(chromium, demo.base, VISITORS["light, English, desktop"]) as (page, complaints):
        page.goto(demo.base + "/sites/sh1?window=7d")
        page.click("#theme")
        page.click("text=中文")
        page.wait_for_load_state("networkidle")
        assert page.get_attribute("html", "data-theme") == "dark"
        assert page.get_attribute("html", "lang") == "zh-CN"
        assert "window=7d" in page.url
        assert page.locator(".tiles .tile[aria-current]").inner_text().startswith("7 天")
        assert not complaints


def test_a_meter_is_recognised_and_its_configuration_follows_the_picks(demo: Running, chromium: Any) -> None:
    with visit(chromium, demo.base, VISITORS["light, English, desktop"]) as (page, complaints):
        page.goto(demo.base + "/connect")
        page.fill("[name=host]", "127.0.0.1")
        page.fill("[name=port]", str(_modbus_port(demo)))
        page.select_option("[name=protocol]", "modbus")
        with page.expect_navigation():
            page.click("form[action='/connect'] button[type=submit]")
        assert page.locator("pre").count() == 1, page.inner_text("main")
        assert "collector: {kind: modbus" in page.inner_text("pre")
        page.uncheck("[name=pick][value=power_kw]")
        page.select_option("[name='role.energy_import_kwh']", "cooling")
        with page.expect_navigation():
            page.click("text=Update configuration")
        assert "role: cooling" in page.inner_text("pre")
        assert "channel: power_kw" not in page.inner_text("pre")
        assert not complaints


def _modbus_port(demo: Running) -> int:
    """Port of a simulated Modbus meter."""
    return next(port for port in _listening(demo) if _is_modbus(port))


def _listening(demo: Running) -> list[int]:
    """Ports on which the demo listens, by the kernel's table."""
    own = {
        found[1]
        for link in Path(f"/proc/{demo.process.pid}/fd").iterdir()
        if (found := re.match(r"socket:\[(\d+)\]", _target(link)))
    }
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in own]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


def _is_modbus(port: int) -> bool:
    """Whether unit 1 there answers to a read of its vendor name as a Modbus device does."""
    asked = bytes([0, 1, 0, 0, 0, 5, 1, 0x2B, 0x0E, 1, 0])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(asked)
        answer = link.recv(64)
    return answer[:4] == asked[:4] and b"Schneider" in answer
