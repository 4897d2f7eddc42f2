"""What README.md and docs/ show runs as it is written there."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
import typer

from graft.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
# design.md names what is planned as well.
PAGES = [README, *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "design.md")]
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))
COMMANDS = typer.main.get_command(app).commands


def shown_lines(page):
    """Return the command lines of a page that stand on a line of their own, without their remarks."""
    blocks = re.findall(r"^```(?:console|sh|bash|)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").split("\n")
    return [line.removeprefix("$ ") for line in lines if line.startswith(("$ graft ", "graft "))]


def mentions(page):
    """Return the words of every mention of a command in a page."""
    text = page.read_text(encoding="utf-8")
    inline = [" ".join(code.split()) for code in re.findall(r"`(graft [a-z][^`]*)`", text)]
    return [line.split() for line in (*inline, *shown_lines(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_named_exist(page):
    for words in mentions(page):
        assert words[1] in COMMANDS, " ".join(words)
        options = {option for parameter in COMMANDS[words[1]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_are_complete(page):
    for line in shown_lines(page):
        _, command, *rest = shlex.split(line, comments=True)
        COMMANDS[command].make_context(command, rest)  # a missing argument or a wrong value is an error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    for place in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if not place.startswith("http"):
            assert (page.parent / place).exists(), place


def test_every_command_is_in_the_readme():
    text = README.read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"graft {name}" not in text] == []


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    from graft.data.samples import write_leaves

    write_leaves(tmp_path / "flowers", per_class=4, size=48)
    (tmp_path / "new").mkdir()
    for number, picture in enumerate(sorted((tmp_path / "flowers").rglob("*.jpg"))[:2], start=1):
        (tmp_path / "new" / f"{number}.jpg").write_bytes(picture.read_bytes())
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert snippets
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert (tmp_path / "report" / "report.html").exists()
    assert names["found"].verdict.text
    assert capsys.readouterr().out.count("efficientnet_lite0  own output") == 2  # no name is folded


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_code_of_a_guide_runs_and_prints_where_the_page_shows_it(page):
    """Figures differ between machines: what is held is that every block runs, and which of them print something."""
    executed = runpy.run_path(str(ROOT / "docs" / "guide" / "run.py"))["executed"]

    def shape(text):
        return re.sub(r"^```text\n.*?^```", "(printed)", text, flags=re.M | re.S)

    assert shape(executed(page)) == shape(page.read_text(encoding="utf-8"))


def test_every_guide_is_in_the_readme():
    text = README.read_text(encoding="utf-8")
    assert GUIDES
    assert [page.name for page in GUIDES if f"docs/guide/{page.name}" not in text] == []
