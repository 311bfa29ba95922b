"""The report as a reader meets it: in a browser, from disk, without a network, whatever names a run carries."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.run_folders import run_folder

from kanpinn.errors import KanpinnWarning
from kanpinn.plots import figures
from kanpinn.report import write_report
from kanpinn.report.charts import SHAPES, key_axis, log_axis, parallel, scatter
from kanpinn.report.page import equation, number, seconds

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&'


class Page(HTMLParser):
    """What a page's markup says: its elements with attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def sweep_folder(folder: Path, hostile: str = "") -> Path:
    """Eight jobs, one of which crashed before it had a folder, with the summary a sweep writes."""
    columns = ["job", "folder", "status", "reason", "backbone", "seed", "backbone.degree", "problem", "parameters"]
    rows = []
    for job in range(7):
        backbone, seed = ("kan", "mlp")[job % 2], job // 2
        run_folder(folder / str(job), backbone=backbone, seed=seed, wall_time_s=2.0 + 3 * job)
        rows.append(
            [
                job,
                job,
                "step_limit",
                "",
                backbone,
                seed,
                3 + seed,
                "heat",
                100 + seed,
                1e-6,
                1e-3 * (seed + 1),
                2.0 + 3 * job,
            ]
        )
    rows.append([7, "", "crashed", f"RuntimeError: a crash {hostile}".strip(), "mlp", 3, 6, "heat", "", "", "", ""])
    with (folder / "summary.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([[*columns, "loss", "relative_l2_u", "wall_time_s"], *rows])
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A run's page, a sweep's, and one of each with hostile names in every text a user can give."""
    base = tmp_path_factory.mktemp("reports")
    run = run_folder(base / "run")
    hostile = run_folder(base / "hostile", backbone="kan", problem="heat", equation=HOSTILE, note=HOSTILE)
    (hostile / "log.txt").write_text(HOSTILE)
    drawn = figures
    with pytest.MonkeyPatch.context() as patch:  # one figure will do, beside its names
        patch.setattr("kanpinn.plots.figures", lambda *a, **k: dict([*drawn(*a, **k).items()][:1]))
        hostile = write_report(hostile, base / "hostile.html", dpi=40)
    return {
        "run": write_report(run, dpi=40),
        "sweep": write_report(sweep_folder(base / "sweep"), dpi=40),
        "hostile": hostile,
        "hostile sweep": write_report(sweep_folder(base / "hostile sweep", HOSTILE), dpi=40),
    }


# --- markup


@pytest.mark.parametrize("kind", ["run", "sweep", "hostile", "hostile sweep"])
def test_a_page_is_complete_in_itself(pages, kind):
    text = pages[kind].read_text()
    page = Page(text)
    assert len(page.all("script")) == 1 and not page.all("script")[0]
    assert not any(tag in ("iframe", "object", "embed", "base") for tag, _ in page.elements)
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert all(image["alt"] and image["width"] and image["height"] for image in page.all("img"))
    assert not re.search(r"@import|url\(|https?://", text.replace("http://www.w3.org/", ""))
    assert page.all("html")[0]["lang"] == "en"
    assert all("scope" in head for head in page.all("th"))
    assert all(not any(name.startswith("on") for name in attributes) for _, attributes in page.elements)
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe-inline'; script-src 'sha256-" in policy


def test_the_pages_numbers_are_those_of_the_files(pages):
    words = "".join(Page(pages["run"].read_text()).words)
    metrics = json.loads((pages["run"].parent / "metrics.json").read_text())
    assert number(metrics["relative_l2"]["u"]) == "1×10⁻³".replace("1×", "1.00×") and "1.00×10⁻³" in words
    assert "15.5 s" in words and "30 steps" in words
    cells = [float(cell["data-value"]) for cell in Page(pages["sweep"].read_text()).all("td") if "data-value" in cell]
    with (pages["sweep"].parent / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    expected = [
        float(row[name]) for row in rows for name in ("relative_l2_u", "loss", "parameters", "wall_time_s") if row[name]
    ]
    assert cells == expected


def test_a_sweeps_page_shows_failed_jobs_and_links_the_others(pages):
    page = Page(pages["sweep"].read_text())
    assert "RuntimeError: a crash" in "".join(page.words)
    links = {link["href"] for link in page.all("a") if link.get("href")}
    assert {f"{job}/" for job in range(7)} <= links and "7/" not in links
    assert all((pages["sweep"].parent / link).exists() for link in links)


def test_text_of_users_is_text(pages):
    for kind in ("hostile", "hostile sweep"):
        assert HOSTILE in "".join(Page(pages[kind].read_text()).words)


def test_a_run_without_results_has_a_page_that_says_so(tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "config.yaml").write_text("problem: {name: heat}\nseed: 0\n")
    text = write_report(folder).read_text()
    assert "unfinished" in text and "was killed" in text and "seed: 0" in text
    assert not Page(text).all("img")


def test_a_sweep_without_a_summary_is_read_from_its_runs(tmp_path):
    for seed in (0, 1):
        run_folder(tmp_path / "sweep" / str(seed), seed=seed)
    page = Page(write_report(tmp_path / "sweep", dpi=40).read_text())
    assert "2 jobs over seed, backbone.width" in "".join(page.words)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "{"),
        *(pytest.param("config.yaml", text, marks=pytest.mark.slow) for text in ("a: [", "[1]")),
    ],
)
def test_damaged_files_beside_the_solution_are_told(tmp_path, name, text):
    run = run_folder(tmp_path / "run")
    (run / name).write_text(text)
    with pytest.warns(KanpinnWarning, match=rf"{name}: .*; its content is taken from solution\.h5$"):
        page = Page(write_report(run, dpi=40).read_text())
    words = " ".join(page.words)
    assert "damaged" in words and f"{name}: " in words


def test_a_damaged_job_does_not_cost_the_others_their_page(tmp_path):
    folder = sweep_folder(tmp_path / "sweep")
    (folder / "3" / "solution.h5").write_bytes(b"cut short")
    text = write_report(folder, dpi=40).read_text()
    assert "A curve for each of 6 runs" in text
    (folder / "summary.csv").unlink()
    (folder / "3" / "metrics.json").write_text("{")
    words = "".join(Page(write_report(folder, dpi=40).read_text()).words)
    assert "1 damaged" in words and "is not an HDF5 file" not in words and "cannot be read" in words


def test_report_writes_where_it_is_told(tmp_path, kanpinn):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    result = kanpinn("report", "run", "-o", "pages/run.html")
    assert result.code == 0, result.err
    assert result.out == "pages/run.html\n" and Path("pages/run.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "empty: neither a run folder nor a sweep's"),
        (["run", "-o", "empty"], "-o empty: this is a folder"),
        ([], "the following arguments are required: RUN|SWEEP"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(tmp_path, kanpinn, argv, complaint):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    result = kanpinn("report", *argv)
    assert result.code == 2
    assert complaint in result.err and result.err.count("\n") == 1


# --- numbers and charts


def test_numbers_durations_and_equations_read_well():
    given = [1.234e-7, 0.5, 12.0, 12345, None, "kan", 0.0, -2e-5, True, 1234.5, float("inf")]
    shown = ["1.23×10⁻⁷", "0.5", "12", "12\u202f345", "–", "kan", "0", "−2.00×10⁻⁵", "True", "1234", "not finite"]
    assert [number(value) for value in given] == shown
    assert [seconds(value) for value in (8.06, 125, 3785, None)] == ["8.1 s", "2 min 5 s", "1 h 3 min", "–"]
    assert equation("u_t = nu u_xx") == "u<sub>t</sub> = ν u<sub>xx</sub>"
    assert equation("<b> & nu_x") == "&lt;b&gt; &amp; ν<sub>x</sub>"


def test_axes_place_values_and_their_ticks_alike():
    axis = log_axis("error", [1e-6, 1e-2])
    for place, text in axis.ticks:
        value = (
            float(text)
            if "10" not in text[:2] or "." in text
            else 10.0 ** int(text[2:].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
        )
        assert axis.place(value) == pytest.approx(place)
    assert 0 < axis.place(1e-6) < axis.place(1e-2) < 1
    assert axis.place(0.0) is axis.place(None) is axis.place("x") is None
    words = key_axis("backbone", ["kan", "mlp", "kan", "separable"])
    assert [(place, text) for place, text in words.ticks] == [(0, "kan"), (0.5, "mlp"), (1, "separable")]
    assert key_axis("steps", ["10", "20", "40"]).place("20") == pytest.approx(1 / 3)
    assert key_axis("nu", ["0.001", "0.01", "0.1"]).place("0.01") == pytest.approx(0.5)


def test_charts_have_a_mark_per_job_with_an_error_in_the_right_order():
    jobs = [
        {"name": f"job {k}", "error": 10.0**-k, "seconds": 1.0 + k, "href": None, "keys": {"seed": str(k % 2)}}
        for k in range(5)
    ]
    jobs.append({"name": "failed", "error": None, "seconds": None, "href": None, "keys": {"seed": "1"}})
    dots = scatter(jobs, "seed")
    assert len(dots.marks) == 5
    assert (np.diff([mark["x"] for mark in dots.marks]) > 0).all()
    assert (np.diff([mark["y"] for mark in dots.marks]) > 0).all()  # downwards, as SVG counts
    assert dots.legend == [("0", 0, SHAPES[0]), ("1", 1, SHAPES[0])]
    assert len({mark["shape"] for mark in scatter(jobs, None, "seed").marks}) == 2
    lines = parallel(jobs, ["seed"])
    assert [mark["error"] for mark in lines.marks] == sorted((job["error"] for job in jobs[:5]), reverse=True)
    assert all(mark["points"].count(",") == 2 for mark in lines.marks)
    assert scatter(jobs[4:], None) is None and parallel(jobs, []) is None


# --- the browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    if CHROMIUM is None:
        pytest.skip("no Chromium installed (chromium, chromium-browser or google-chrome)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    works = subprocess.run([CHROMIUM, "--version"], capture_output=True, timeout=60, check=False)
    if works.returncode:
        pytest.skip(f"{CHROMIUM} does not start: {works.stderr.decode(errors='replace')[-200:]}")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Open a page and keep what it asks for and complains of."""
    contexts = []

    def opened(path: Path, **options: Any):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(path.resolve().as_uri())
        page.wait_for_load_state("networkidle")
        return page, asked, complaints

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("kind", ["run", "sweep", "hostile", "hostile sweep"])
def test_a_page_renders_from_disk_and_asks_for_nothing(pages, visit, kind):
    page, asked, complaints = visit(pages[kind])
    assert [url for url in asked if not url.startswith("data:")] == [pages[kind].resolve().as_uri()]
    assert complaints == []
    assert page.title() != "owned"
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.images.length") >= (6 if kind == "run" else 1)
    assert page.locator("h1").is_visible()
    assert page.evaluate("getComputedStyle(document.body).fontSize") == "16px"


def column(page, table: str, name: str) -> list[str]:
    """The cells of a table's column, as shown."""
    heads = page.locator(f"{table} thead th").all_inner_texts()
    k = next(k for k, head in enumerate(heads) if head.strip().startswith(name))
    return [row.locator("th, td").nth(k).inner_text() for row in page.locator(f"{table} tbody tr").all()]


def test_tables_sort_by_a_click_or_a_key_and_say_so(pages, visit):
    page, _, complaints = visit(pages["sweep"])
    table = "section[aria-labelledby=jobs] table"
    assert column(page, table, "job") == [str(k) for k in range(8)]
    head = page.locator(f"{table} thead th", has_text="rel. L₂ u")
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, table, "job") == ["0", "1", "2", "3", "4", "5", "6", "7"]
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, table, "job") == ["6", "4", "5", "2", "3", "0", "1", "7"]  # the job without an error stays last
    words = page.locator(f"{table} thead th", has_text="backbone").first
    words.get_by_role("button").click()
    assert column(page, table, "backbone") == ["kan"] * 4 + ["mlp"] * 4
    assert head.get_attribute("aria-sort") == "none"
    assert complaints == []


def test_without_javascript_everything_is_there_but_the_sorting(pages, visit):
    page, _, _ = visit(pages["sweep"], java_script_enabled=False)
    assert page.locator("section[aria-labelledby=jobs] tbody tr").count() == 8
    assert page.locator("button").count() == 0
    assert page.locator(".chart > svg").count() == 2


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_narrow_window_and_the_dark_scheme(pages, visit, kind):
    page, _, _ = visit(pages[kind], viewport={"width": 360, "height": 700}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert max(red, green, blue) < 60
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180
