"""The report, opened and used in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from analysis.show.write_report import write_report
from schema.run_records import Rehearsal, Status
from tests.analysis.recorded import write_run_folder, write_study
from tests.analysis.show.hostile import hostile_page
from tools.packages import PACKAGES

CHROMIUM = next(package for package in PACKAGES if package.name == "chromium").path()
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium (apt-get install chromium)")

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


CUT_LEGENDS = """
[...document.querySelectorAll(".plot svg")].filter((svg) =>
  [...svg.querySelectorAll(".role-legend")].some((legend) =>
    legend.getBoundingClientRect().right > svg.getBoundingClientRect().right + 1)
).map((svg) => svg.closest("figure").id)
"""
"""Figures whose legend is wider than the drawing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measured")
    return write_report([write_study(root / "metadata", (4, 8, 16))], root / "out")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rehearsed")
    simulated = Rehearsal(nodes="simulated", scale=0.01)
    runs = [
        write_run_folder(root / "runs", f"run1-size-{nodes}", nodes, simulated, Status.FAILED)
        for nodes in (4, 16)
    ]
    return write_report(runs, root / "out")


class Opened:
    """A page with its console messages, errors and requests."""

    def __init__(self, browser: Browser, path: Path, address: str = "", **options: object) -> None:
        self.page: Page = browser.new_page(**options)  # type: ignore[arg-type]
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.trouble.append(m.text) if m.type != "log" else None)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address or path.as_uri())

    def draw_all(self) -> list[str | None]:
        """Scroll through the page; return the state of each visible figure."""
        states = []
        for figure in self.page.locator("figure").all():
            if figure.is_visible():
                figure.scroll_into_view_if_needed()
                self.page.wait_for_selector(f"figure#{figure.get_attribute('id')}[data-drawn]")
                states.append(figure.get_attribute("data-drawn"))
        return states


@pytest.mark.parametrize(
    ("which", "scheme", "width"),
    [
        ("measured", "light", 1200),
        ("measured", "dark", 390),
        ("rehearsed", "light", 390),
        ("rehearsed", "dark", 1200),
    ],
)
def test_all_figures_are_drawn_without_any_request(
    browser: Browser, request: pytest.FixtureRequest, which: str, scheme: str, width: int
) -> None:
    path = request.getfixturevalue(which)
    opened = Opened(browser, path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    states = opened.draw_all()
    assert len(states) >= 6
    assert set(states) == {"yes"}
    assert opened.trouble == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    broad = opened.page.evaluate("document.documentElement.scrollWidth")
    assert broad <= width, "the page scrolls sideways"
    opened.page.close()


@pytest.mark.full
@pytest.mark.parametrize("width", [390, 1200])
def test_no_legend_is_cut_on_the_page_of_the_original_study(
    browser: Browser, chonks: Path, tmp_path: Path, width: int
) -> None:
    page = write_report([chonks / "pulling", chonks / "pulling-test"], tmp_path)
    opened = Opened(browser, page, viewport={"width": width, "height": 900})
    opened.page.wait_for_selector("html[data-drawn=all]", timeout=60_000)
    assert opened.page.evaluate(CUT_LEGENDS) == []
    opened.page.close()


def test_the_choices_of_a_view_are_in_its_address(browser: Browser, rehearsed: Path) -> None:
    opened = Opened(browser, rehearsed)
    opened.draw_all()
    page = opened.page
    dots = page.locator("#by-cluster .mark-symbol path")
    valid = dots.count()
    page.locator("[data-view=which]").select_option("all successful pulls")
    page.locator("[data-view=images]").fill("1.18, 6.84 GB")
    page.locator("#choice-timeline").select_option(index=0)
    page.locator("#timeline-0 .vega-embed").wait_for(timeout=20_000)
    assert not page.locator("#timeline-1").is_visible()
    page.locator("#by-cluster a.link").click()
    fewer = f"document.querySelectorAll('#by-cluster .mark-symbol path').length < {valid}"
    page.wait_for_function(fewer)
    chosen = dots.count()
    copy = Opened(browser, rehearsed, page.url)
    copy.draw_all()
    assert copy.page.locator("[data-view=images]").input_value() == "1.18, 6.84 GB"
    assert copy.page.locator("[data-view=which]").input_value() == "all successful pulls"
    assert copy.page.locator("#timeline-0").is_visible()
    assert copy.page.locator("#by-cluster .mark-symbol path").count() == chosen
    assert opened.trouble == copy.trouble == []
    copy.page.close()
    page.close()


def test_a_mark_shows_its_numbers_in_a_tooltip(browser: Browser, measured: Path) -> None:
    opened = Opened(browser, measured, viewport={"width": 1200, "height": 900})
    opened.draw_all()
    mark = opened.page.locator("#wall-time .mark-rect path").first
    mark.scroll_into_view_if_needed()
    mark.hover()
    tooltip = opened.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for(timeout=5_000)
    assert "control plane" in tooltip.inner_text()
    opened.page.close()


def test_by_keyboard_alone(browser: Browser, measured: Path) -> None:
    opened = Opened(browser, measured)
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("d => d.open")
    region = page.locator("details").first.locator("[role=region]")
    assert region.get_attribute("tabindex") == "0"
    page.close()


def test_structure_for_screen_readers(browser: Browser, measured: Path) -> None:
    opened = Opened(browser, measured)
    page = opened.page
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1
    named = page.locator("section, figure").evaluate_all(
        "all => all.map(e => document.getElementById(e.getAttribute('aria-labelledby')) !== null)"
    )
    assert named
    assert all(named)
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href") or "none").count() == 1
    page.close()


def test_it_can_be_read_without_javascript(browser: Browser, measured: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(measured.as_uri())
    assert page.get_by_text("Does a pull take longer on a larger cluster?").is_visible()
    page.locator("summary").first.click()
    assert page.locator("details table").first.is_visible()
    figures = page.locator("figure")
    assert figures.count() >= 10
    sizes = "all => all.map(i => [i.naturalWidth, i.naturalHeight])"
    drawn = figures.locator("img").evaluate_all(sizes)
    hidden = page.locator("[data-panel][hidden] figure").count()  # not the chosen cluster
    assert len(drawn) + hidden == figures.count()
    assert len(drawn) >= 8
    assert all(width > 300 and height > 50 for width, height in drawn), drawn
    page.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_page(tmp_path_factory.mktemp("hostile"))


def test_hostile_texts_make_no_request_and_run_no_script(browser: Browser, hostile: Path) -> None:
    opened = Opened(browser, hostile, viewport={"width": 1200, "height": 900})
    page = opened.page
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.wait_for_selector("html[data-drawn=all]", timeout=60_000)
    hovered = hover_all(page)
    assert len(hovered) >= 5, hovered
    assert page.locator("figure#machine-points").count() == 1, "prices are in a plot"
    assert any("<img src=" in text for text in hovered), "a tooltip shows hostile text as text"
    assert page.locator("#vg-tooltip-element img").count() == 0
    assert page.locator("figure[data-drawn=failed]").count() == 0
    assert dialogs == []
    # No container of these events ended: Vega warns of an empty part of the timeline.
    assert [text for text in opened.trouble if "Infinite extent" not in text] == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert "\u202e" not in page.content()
    page.close()


def hover_all(page: Page) -> list[str]:
    """Move over marks of each visible plot; return the text of the tooltips."""
    texts = []
    for plot in page.locator("figure .plot").all():
        if not plot.is_visible():
            continue
        plot.scroll_into_view_if_needed()
        marks = plot.locator("[aria-roledescription][class*=mark] path, .mark-rect path")
        boxes = [mark.bounding_box() for mark in marks.all()[:12]]
        for box in filter(None, boxes):
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            tooltip = page.locator("#vg-tooltip-element.visible")
            if tooltip.count():
                texts.append(tooltip.inner_text())
    return texts


def test_nothing_but_the_page_s_own_scripts_may_run(browser: Browser, measured: Path) -> None:
    opened = Opened(browser, measured)
    page = opened.page
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x';"
        " document.body.append(i); }"
    )
    assert page.evaluate("window.ran === undefined")
    refused = [text for text in opened.trouble if "Content Security Policy" in text]
    assert len(refused) == 2
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_plot_is_printed(browser: Browser, rehearsed: Path, scheme: str) -> None:
    opened = Opened(
        browser, rehearsed, viewport={"width": 1200, "height": 800}, color_scheme=scheme
    )
    page = opened.page
    page.wait_for_selector("html[data-drawn=all]", timeout=60_000)
    page.emulate_media(media="print")
    boxes = page.locator("figure .plot").evaluate_all(
        "all => all.map(plot => { const d = plot.querySelector('svg, canvas');"
        " const box = d ? d.getBoundingClientRect() : {width: 0, height: 0};"
        " return [box.width, box.height]; })"
    )
    assert len(boxes) >= 10
    assert all(width > 200 and height > 50 for width, height in boxes), boxes
    assert opened.trouble == []
    page.close()
