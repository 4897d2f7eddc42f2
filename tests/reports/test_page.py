"""The page: every section when its data is there, every figure as measured, nothing loaded, all escaped."""

import dataclasses
import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from graft import reports
from graft.cli import main
from graft.errors import GraftError, RunError
from graft.evaluation.results import Results, read_results
from graft.reports import contents, wording
from graft.reports.palette import DARK, LIGHT, LINES

VOID = {"img", "meta", "br"}
HOSTILE = "</script><script>alert(1)</script>\"'&<img src=https://evil.example/x onerror=alert(2)>\x1b[31m\x00$x^2$"


class Page(HTMLParser):
    """Reads a page: sections by name, figures, attributes; checks that elements are closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.sections, self.data, self.texts = [], [], {}, [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag in VOID:
            return
        self.open.append((tag, attributes))
        if tag == "section":
            self.sections.setdefault(attributes["data-part"], [])
        if tag == "data":
            self.data.append((self._section(), float(attributes["value"]) if "value" in attributes else None, ""))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "style":
            return
        self.texts.append(data)
        if self._section():
            self.sections[self._section()].append(data)
        if self.open and self.open[-1][0] == "data":
            section, value, text = self.data[-1]
            self.data[-1] = (section, value, text + data)

    def _section(self):
        return next((attributes["data-part"] for tag, attributes in reversed(self.open) if tag == "section"), None)

    def all(self, tag, class_=None):
        return [one for name, one in self.tags if name == tag and class_ in (None, *one.get("class", "").split())]

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="session")
def documents(made):
    """Return the document of each case, by name; each is rendered once."""
    return {name: reports.html(one) for name, one in made.items()}


@pytest.fixture(scope="session")
def pages(documents):
    """Return the page of each case, by name."""
    return {name: Page(one) for name, one in documents.items()}


def numbers(value):
    """Yield every number in plain values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def writings(value, of):
    """Return every way in which a figure may be written."""
    written = {wording.score(value, of), wording.percent(value), wording.gain(value, of), wording.seconds(value)}
    written |= {wording.memory(value), wording.quantity(value), wording.quantity(value, "J"), wording.factor(value)}
    written |= {f"{value:,.0f}", f"{value:.3f}"}
    written |= {f"{mark}{wording.factor(one)}" for mark in ("> ", "≤ ") for one in (value, 1 / value if value else 1)}
    return written | {wording.factor(1 / value) if value else ""}


def changed(results, **parts):
    """Return results with the same keys of every detail replaced."""
    return dataclasses.replace(results, details=tuple({**one, **parts} for one in results.details))


def test_every_section_is_there_exactly_when_its_data_is(case, made, pages):
    results, page = made[case], pages[case]
    details = results.details
    expected = {
        "verdict": True,
        "curves": bool(results.summary),
        "worth": bool(results.verdict.findings),
        "domains": any(one["coordinates"] for one in details),
        "tasks": any(one["tasks"] for one in results.verdict.findings),
        "models": bool(details),
        "left-out": any(not cell.done for cell in results.cells),
        "measured": True,
        "cells": any(cell.done for cell in results.cells),
    }
    assert list(page.sections) == [name for name, there in expected.items() if there]
    charts = len(page.all("svg"))
    drawn = 2 * bool(results.summary) + sum(bool(one["gains"]) for one in results.verdict.findings)
    drawn += expected["tasks"] + sum(bool(one["coordinates"]) for one in details)
    drawn += sum(bool(one[part]) for one in details for part in ("confusion", "calibration", "predicted"))
    assert charts == drawn


def test_each_of_several_tasks_has_a_part_of_every_model(made, pages):
    results, page = made["tasks"], pages["tasks"]
    tasks = [one["task"] for one in contents.details_of(results, None)]
    assert len(set(tasks)) == len(tasks) > 1
    parts = [one["data-part"] for one in page.all("details", "task")]
    models = len(page.all("details", "model"))
    assert models == len({one["technique"] for one in results.details})
    assert parts == [f"task{place}-{number}" for place in range(models) for number in range(len(tasks))]
    cell = contents.cell_of(results, contents.detail_of(results, None))
    for task in tasks:
        assert f"{task}: {wording.percent(cell.tasks[task]['accuracy'].value)} accuracy" in page.text
    first, second = (reports.confusion_matrix(results, task=task) for task in tasks[:2])
    drawn = [[one.get_text() for one in figure.axes[0].texts] for figure in (first, second)]
    assert drawn[0] != drawn[1]
    assert reports.calibration(results, task="no such task") is None


@pytest.mark.parametrize(
    ("part", "empty", "words"),
    [
        ("wrong", [], "Most confidently wrong"),
        ("foreign", [], "Least like the training data"),
        ("calibration", [], "Calibration"),
        ("per_class", [], "the hardest first"),
        ("confusion", None, "Confusion matrix"),
    ],
)
def test_a_part_of_a_model_goes_with_its_data(part, empty, words, made):
    whole = dataclasses.replace(made["images"], details=made["images"].details[:1], summary=(), cells=())
    assert words in Page(reports.html(whole)).text
    assert words not in Page(reports.html(changed(whole, **{part: empty}))).text


def test_the_hardest_classes_come_first_and_those_without_an_example_last():
    rows = [("a", 5, 0.9), ("untested", 0, 0.0), ("b", 3, 0.2), ("unknown", 4, None), ("c", 2, 0.0)]
    detail = {"per_class": [{"class": name, "examples": count, "f1": f1} for name, count, f1 in rows]}
    assert [one["class"] for one in contents.hardest_first(detail)] == ["c", "b", "a", "untested", "unknown"]


def test_every_figure_is_one_of_the_results_and_written_as_such(case, made, pages):
    results, page = made[case], pages[case]
    there = set(numbers(results.to_dict()))
    for name in contents.technique_names(results):
        there |= set(numbers(contents.costs(results, name) or {}))
    assert len(page.data) > 10 or not results.summary
    for _, value, text in page.data:
        if value is None:
            assert text in (wording.UNKNOWN, "\N{EN DASH}")
        else:
            assert value in there, text
            assert text in writings(value, results.score)


def test_tables_hold_all_scores_gains_and_cells(case, made, pages):
    results, page = made[case], pages[case]
    scores = [one["score"]["value"] for one in results.summary]
    shown = [value for section, value, _ in page.data if section == "curves"]
    assert shown[: len(scores)] == scores
    gains = [one["value"] for finding in results.verdict.findings for one in finding["gains"]]
    worth = [value for section, value, _ in page.data if section == "worth"]
    assert [value for value in worth if value in gains] == gains
    cells = [cell.score.value for cell in results.cells if cell.done]
    assert [value for section, value, _ in page.data if section == "cells"][::3] == cells
    figures = [one["value"] for one in results.verdict.figures]
    assert [value for section, value, _ in page.data if section == "verdict"] == figures


def test_what_was_left_out_is_said_with_its_reason(made, pages):
    words = " ".join(pages["images"].sections["left-out"])
    for cell in made["images"].cells:
        assert cell.done or cell.reason in words
    assert words.count("fine tuning") == 1  # the seeds that share a reason share a row
    assert "failed" in " ".join(pages["domains"].sections["left-out"])


def test_what_repeats_it_is_there(made, pages):
    words = " ".join(" ".join(pages["images"].sections["measured"]).split())
    one = made["images"]
    for said in (one.command, one.data["fingerprint"], one.settings["backbone"]["weights_hash"], "0, 1, 2", "x86_64"):
        assert said in words
    for name, version in one.versions.items():
        assert f"{name} {version}" in words


def test_no_option_of_the_command_is_broken_at_its_hyphens(documents):
    assert "<code>graft compare photos/ <span>--out</span> report <span>--seeds</span> 3</code>" in documents["images"]


def test_nothing_is_loaded_and_nothing_runs(case, documents, pages):
    text, page = documents[case], pages[case]
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("object")
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert re.match(r"#|data:image/", attributes.get(name, "#"))
        assert not re.search(r"url\((?!#)", " ".join(filter(None, attributes.values())))
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 1
    assert not re.search(r"@import|url\(|expression", styles[0])
    policy = next(one["content"] for one in page.all("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("name", ["images", "texts", "domains", "tasks"])
def test_names_and_texts_of_users_stay_text(name, made, pages):
    """Wherever results hold text, let it be an attack: the page then has the same elements, and says the attack."""
    keep = {"image", "text", "features", "per class", "examples", "classification", "multi-task", "done", "left out"}
    keep |= {
        "failed",
        "pays",
        "transfer",
        "adaptation",
        "sharing",
        "labels",
        "time",
        "memory",
        "at least",
        "graft comparison",
    }

    def attack(value):
        if isinstance(value, dict):
            return {key: attack(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [attack(one) for one in value]
        if isinstance(value, str) and value not in keep and not value.startswith("data:image"):
            return value + HOSTILE
        return value

    plain = attack(made[name].to_dict())
    page = Page(reports.html(Results.from_dict(plain)))
    honest = pages[name]
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in honest.tags]
    assert {name for _, one in page.tags for name in one} == {name for _, one in honest.tags for name in one}
    assert "<script>alert(1)</script>" in page.text
    assert not set(page.text) & {"\x1b", "\x00"}


@pytest.mark.parametrize(
    "picture",
    ["https://evil.example/x.png", "javascript:alert(1)", "data:text/html;base64,AAAA", 'data:image/png;base64,"', 7],
)
def test_only_embedded_pictures_are_shown(picture, made):
    wrong = [{**one, "thumbnail": picture} for one in made["images"].details[0]["wrong"]]
    page = Page(reports.html(changed(made["one technique"], wrong=wrong, foreign=[])))
    assert not page.all("img")
    assert "evil" not in page.text


def test_pictures_are_shown_with_what_they_are(made, pages):
    first = pages["images"].all("img")[0]
    leading = contents.details_in_order(made["images"])[0]
    assert first["src"] == leading["wrong"][0]["thumbnail"]
    assert str(leading["wrong"][0]["row"]) in first["alt"]
    assert not pages["texts"].all("img")
    assert "charged twice" in " ".join(pages["texts"].sections["models"])


def test_what_the_figures_say_is_said_once(made):
    verdict = made["tasks"].verdict
    text = f"It pays. {' '.join(one['text'] for one in verdict.figures)} So it is."
    whole = dataclasses.replace(made["tasks"], verdict=dataclasses.replace(verdict, text=text))
    words = " ".join(Page(reports.html(whole)).sections["verdict"])
    assert "It pays. So it is." in words
    for figure in verdict.figures:
        assert words.count(figure["text"]) == 1


def test_one_of_several_labels_is_there_or_not(made, pages):
    words = "".join(pages["labels"].sections["models"])
    for one in made["labels"].details[0]["wrong"]:
        assert f"{one['label']}: taken for yes ({wording.percent(one['p'])}), is no" in words


def test_the_score_of_several_tasks_is_read_as_it_is_called(made):
    cells = tuple(dataclasses.replace(one, metrics={"score": one.score}) for one in made["tasks"].cells)
    score = {"name": "score", "title": "mean score of the tasks", "percent": True}
    page = Page(reports.html(dataclasses.replace(made["tasks"], cells=cells, score=score)))
    words = " ".join(page.sections["models"])
    assert re.search(r"mean score of the tasks\s+\d\d\.\d %", words)
    assert "species: accuracy" in words


def test_the_same_results_give_the_same_page_also_in_another_process(made, documents, tmp_path):
    results = made["domains"]
    results.write(tmp_path)
    here = documents["domains"]
    assert here == reports.html(read_results(tmp_path))
    code = f"from graft.cli import main; raise SystemExit(main(['report', {str(tmp_path)!r}, '--json']))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    written = json.loads(said.stdout)["report"]
    with open(written, encoding="utf-8") as stream:
        assert stream.read() == here


def test_the_page_is_small_and_its_ids_are_unique(case, made, documents):
    results, text = made[case], documents[case]
    pictures = sum(
        len(one["thumbnail"] or "") for detail in results.details for one in detail["wrong"] + detail["foreign"]
    )
    assert len(text) - pictures < 700_000
    ids = [one["id"] for _, one in Page(text).tags if "id" in one]
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert target in ids


def test_charts_follow_the_page_into_the_dark_and_say_what_they_show(case, documents):
    text = documents[case]
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert not re.search(r"#[0-9a-f]{6}\b|font-family|<style|<image", chart)
        assert 'role="img"' in chart
        assert re.search(r'aria-label="[^"]{10,}"', chart)
        assert "<text" in chart
        assert set(re.findall(r"var\(--([a-z0-9-]+)\)", chart)) <= set(LIGHT)
    for colours in (LIGHT, DARK):
        for name, value in colours.items():
            assert f"--{name}:{value}" in text


def luminance(colour):
    """Return the relative luminance of WCAG 2.2."""
    share = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_read_on_their_ground(colours):
    def contrast(one, other):
        dark, light = sorted([luminance(colours[one]), luminance(colours[other])])
        return (light + 0.05) / (dark + 0.05)

    assert set(LIGHT) == set(DARK)
    assert len(set(LIGHT.values())) == len(LIGHT)
    for name in ("ink", "muted"):
        assert contrast(name, "surface") >= 4.5
    for name in LINES:
        assert contrast(name, "surface") >= 3
    assert contrast("on-cell", "cell") >= 4.5


def test_it_is_written_whole_or_refused(made, tmp_path):
    written = reports.write_html(made["tasks"], folder=tmp_path / "deep" / "report")
    assert written.name == "report.html"
    assert [path.name for path in written.parent.iterdir()] == ["report.html"]
    (tmp_path / "taken").write_text("")
    with pytest.raises(GraftError, match=r"expected a folder for the report, found a file\. Name another folder"):
        reports.write_html(made["tasks"], folder=tmp_path / "taken")
    with pytest.raises(GraftError, match="a disk that takes the file"):
        reports.write_html(made["tasks"], folder=tmp_path / "taken" / "deeper")


def test_results_with_nothing_in_them_make_a_page():
    page = Page(reports.html(Results()))
    assert list(page.sections) == ["verdict", "measured"]
    assert "Not measured" in page.text


def test_results_that_lack_a_part_are_refused_by_its_name(made):
    def without(results, part, key):
        first, *others = getattr(results, part)
        return dataclasses.replace(results, **{part: ({k: v for k, v in first.items() if k != key}, *others)})

    for part, key in [("summary", "score"), ("summary", "n_train"), ("details", "wrong"), ("details", "seed")]:
        with pytest.raises(RunError, match=rf"{part}\[0\].{key}: expected"):
            reports.html(without(made["images"], part, key))


@pytest.mark.parametrize(
    ("part", "value", "where"),
    [
        ("confusion", [[1, 2]], "confusion"),
        ("confusion", [["<b>"]], r"confusion\[0\]\[0\]: expected a number"),
        ("calibration", [{"examples": 1, "confidence": float("nan"), "accuracy": 1.0}], "confidence"),
        ("wrong", "many", r"wrong: expected a list, found 'many'"),
        ("predicted", {"true": [1.0], "predicted": []}, "predicted"),
        ("coordinates", {"before": {"source": [[0, 0, 0]], "target": []}}, "coordinates.after"),
        ("technique", "unheard-of", "techniques: expected one that is named 'unheard-of'"),
    ],
)
def test_results_changed_by_hand_are_refused_by_what_is_wrong(part, value, where, made):
    with pytest.raises(RunError, match=where):
        reports.html(changed(made["images"], **{part: value}))


def test_a_page_leaves_no_trace_in_matplotlib():
    code = """
import sys, matplotlib
from graft import reports
from graft.cli import main
from graft.evaluation.results import Results
def settings():  # all but the backend: asking for that loads pyplot
    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
before = settings()
matplotlib.rcParams["font.size"] = 30
score = {"value": 0.5, "low": 0.4, "high": 0.6}
entry = {"technique": "x", "budget": 5, "n_train": 10.0, "seconds": 1.0, "score": score}
found = Results(techniques=({"name": "x"},), summary=(entry,))
assert "<svg" in reports.html(found)
assert matplotlib.rcParams["font.size"] == 30
matplotlib.rcParams["font.size"] = before["font.size"]
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_comparisons_are_one_page_with_their_verdicts_at_its_top(made, tmp_path, capsys):
    everything = list(made.values())
    text = reports.html(*everything)
    page = Page(text)
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids)) >= len(everything)
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert target in ids
    assert len(page.all("main")) == 1
    assert len(page.all("article")) == len(everything)
    overview = text[: text.index("<main>")]
    for one in everything:
        assert html.escape(str(one.data.get("name") or "A comparison"), quote=False) in overview
    folders = []
    for place, one in enumerate(everything[:2]):
        folders.append(str(tmp_path / str(place)))
        one.write(folders[-1])
    assert main(["report", *folders]) == 2
    assert "--out" in capsys.readouterr().err
    capsys.readouterr()
    assert main(["report", *folders, "--out", str(tmp_path / "both"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == str(tmp_path / "both" / "report.html")
    assert [one["data"]["name"] for one in printed["comparisons"]] == [one.data["name"] for one in everything[:2]]
    assert (tmp_path / "both" / "report.html").read_text(encoding="utf-8") == reports.html(*everything[:2])
