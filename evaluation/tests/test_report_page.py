"""The page as a whole, on a made-up run: what it says, what it leaves out, and how it looks in a browser."""

import html.parser
import json
import re
import shutil
import subprocess
import urllib.parse

import numpy
import pytest
from matplotlib import image

from fixtures import made_up_run
from kvmerger_eval import __main__, report, score

SECTIONS = ["quality", "tasks", "costs", "needles", "heads", "layers", "merged", "similarity", "reading"]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """The page of a run with everything in it."""
    folder = tmp_path_factory.mktemp("made_up")
    made_up_run.write(folder, ("none", "default", "h2o"))
    report.run(folder, folder / "page.html")
    return folder / "page.html"


@pytest.fixture
def small(tmp_path):
    """A run of one task without needles, rows of heads and traces."""
    made_up_run.write(tmp_path, ("none", "h2o"))
    (tmp_path / "traces.jsonl").unlink()
    keep_lines(tmp_path, lambda line: line["task"] == "longbench/qasper" and line["budget"] in ("", "50%"))
    rewrite(tmp_path / "scores.json", lambda scores: {"more_rows": [], "rows": [
        row for row in scores["rows"] if row["task"] == "longbench/qasper" and row["budget"] in ("", "50%")]})
    made_up_run.seal(tmp_path)
    return tmp_path


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def keep_lines(folder, wanted):
    path = folder / "predictions.jsonl"
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if wanted(line)]
    path.write_text("".join(json.dumps(line | {"head_rows": None}) + "\n" for line in lines))


class Outline(html.parser.HTMLParser):
    """Checks that elements close in order; gathers ids and links."""

    VOID = {"meta", "wbr", "br", "link", "hr", "img", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.links.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(page):
    parser = Outline()
    parser.feed(page.read_text())
    assert parser.open == []
    return parser


def test_the_page_needs_nothing_else(made_up):
    found = outline(made_up)
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert "url(http" not in made_up.read_text() and "@import" not in made_up.read_text()
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_every_section_is_there(made_up):
    assert [name for name in outline(made_up).ids if name in SECTIONS] == SECTIONS
    assert "left out" not in made_up.read_text()


def test_every_table_states_the_mode(made_up):
    text = made_up.read_text()
    captions = re.findall(r'<p class="caption">.*?</p>', text, re.DOTALL)
    assert len(captions) == text.count("<table>") == 4  # averages, two budgets, costs
    assert all("question-agnostic" in caption for caption in captions)


def test_figures_are_files_too(made_up):
    files = made_up.parent / "page_files"
    drawn = made_up.read_text().count("<figure>")
    pictures, drawings = list(files.glob("*.png")), list(files.glob("*.svg"))
    assert len(pictures) == len(drawings) == drawn > 15
    for picture in pictures:
        assert numpy.ptp(image.imread(picture)[:, :, :3]) > 0.5, picture  # not of one colour


def test_texts_of_the_run_are_not_html(small):
    rewrite(small / "run.json", lambda run: run | {"model": run["model"] | {"name": "<b>bold</b> & co"}})
    report.run(small, small / "page.html")
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in (small / "page.html").read_text()


def test_missing_parts_are_left_out_and_said(small):
    report.run(small, small / "page.html")
    text = (small / "page.html").read_text()
    for missing in ("No task of this run hides a needle", "The run has no rows of compressed heads",
                    "The run has no traces", "The run has no key similarities"):
        assert missing in text
    assert text.count("<figure>") == 2  # quality of the task and, with one task, the same as an average


def test_only_the_full_cache(small):
    keep_lines(small, lambda line: line["method"] == "none")
    rewrite(small / "scores.json", lambda scores: scores | {"rows": scores["rows"][:1]})
    made_up_run.seal(small)
    report.run(small, small / "page.html")
    text = (small / "page.html").read_text()
    assert "No method with a budget was run" in text and "<b>Full cache, question-agnostic.</b>" in text


def test_scores_come_first_where_there_are_none(small):
    (small / "scores.json").unlink()
    rewrite(small / "run.json", lambda run: run | {"tasks": ["longbench/qasper"]})
    report.run(small, small / "page.html")
    assert "Full cache: 100.0." in (small / "page.html").read_text()  # all answer as the made-up run's answers say


@pytest.mark.parametrize("change", [
    lambda lines: lines + [lines[-1] | {"id": "one more"}],
    lambda lines: lines[:-1] + [lines[-1] | {"prediction": "made anew"}],
    lambda lines: lines[:-1] + [lines[-1] | {"extra": lines[-1]["extra"] | {"nll": 270.0}}],
    lambda lines: lines[:-1] + [lines[-1] | {"answers": ["another"]}],
])
def test_scores_of_other_predictions_are_made_again(small, monkeypatch, change):
    called = []
    monkeypatch.setattr(score, "run", called.append)
    report.run(small, small / "page.html")
    assert not called
    path = small / "predictions.jsonl"
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report.run(small, small / "page.html")
    assert called == [small]


def test_a_page_shows_so_many_traces_and_counts_the_others(small, monkeypatch):
    trace = {"task": "t", "id": "0", "method": "h2o", "layer": 0, "head": 0, "tokens": ["a"], "rows": [[0]],
             "similarity": []}
    lines = (json.dumps(trace | {"budget": f"{budget}%"}) + "\n" for budget in (50, 35, 20))
    (small / "traces.jsonl").write_text("".join(lines))
    monkeypatch.setattr(report.page, "MOST_TRACES", 1)
    report.run(small, small / "page.html")
    text = (small / "page.html").read_text()
    assert "h2o 50%, layer 0" in text and "h2o 35%, layer 0" not in text
    assert "2 more in <code>traces.jsonl</code>" in text


@pytest.mark.parametrize("name, damage, message", [
    ("predictions.jsonl", lambda text: text.replace('"mode"', '"mood"', 1), "predictions.jsonl:1: the field 'mode'"),
    ("predictions.jsonl", lambda text: "", "predictions.jsonl: there are no predictions"),
    ("scores.json", lambda text: '{"rows": [\n}', "scores.json: not valid JSON: Expecting value: line 2"),
    ("scores.json", lambda text: text.replace('"score": ', '"points": '), "scores.json: the scores of none"),
    ("run.json", lambda text: text.replace('"mode"', '"mood"'), "run.json: the field 'mode'"),
    ("traces.jsonl", lambda text: "7\n", "traces.jsonl:1: expected a JSON object, found 7"),
])
def test_malformed_files_are_named(small, capsys, name, damage, message):
    path = small / name
    path.write_text(damage(path.read_text() if path.exists() else ""))
    assert __main__.main(["report", str(small), "-o", str(small / "page.html")]) == 1
    assert message in capsys.readouterr().err
    assert not (small / "page.html").exists()


# In a browser: the page in a frame of the device's width, since windows have a least width of their own.

WRAPPER = """<!doctype html><body style="margin: 0">
<iframe src="{page}" style="border: 0; display: block; width: {width}px; height: {height}px"></iframe>
<script>
addEventListener("load", () => {{
  const frame = document.querySelector("iframe"), root = frame.contentDocument.documentElement;
  frame.contentDocument.querySelector(".tokens .merged").click();
  const data = {{inner: frame.contentWindow.innerWidth, scroll: root.scrollWidth, height: root.scrollHeight,
                shown: root.querySelectorAll(".shown").length, status: root.querySelector(".status").textContent}};
  document.body.dataset.found = encodeURIComponent(JSON.stringify(data));
}});
</script>
"""


def browse(page, width, height, *flags):
    """What headless Chromium prints."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("there is no chromium to look at the page with (on Debian: apt-get install chromium)")
    wrapper = page.with_name("wrapper.html")
    wrapper.write_text(WRAPPER.format(page=page.name, width=width, height=height))
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--allow-file-access-from-files", f"--user-data-dir={page.parent / 'profile'}",
               f"--window-size={max(width, 500)},{height}", *flags, wrapper.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(made_up, width):
    found = json.loads(urllib.parse.unquote(
        re.search(r'data-found="([^"]*)"', browse(made_up, width, 900, "--dump-dom"))[1]))
    assert found["inner"] == width
    assert found["scroll"] <= width  # wide tables scroll in their own boxes
    assert found["shown"] > 1 and re.match(r"Token \d+\. Row \d+: \d+ tokens merged: “", found["status"])

    picture = made_up.with_name(f"screen_{width}.png")
    browse(made_up, width, found["height"], f"--screenshot={picture}")
    pixels = image.imread(picture)[:, :width, :3]
    assert pixels.shape[0] == found["height"]
    parts = numpy.array_split(pixels, 8)
    assert all(len(numpy.unique((part * 255).astype(int).reshape(-1, 3), axis=0)) > 30 for part in parts)
