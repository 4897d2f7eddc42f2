"""Tables in a terminal: the same figures, within 80 columns, and nothing that a terminal would obey."""

import io
import json

import pytest
from rich.console import Console

from graft import reports
from graft.cli import main
from graft.evaluation.results import Results
from graft.reports import contents, wording


def shown(results, **options):
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    reports.show(results, console=console, **options)
    return console.file.getvalue()


def test_every_line_fits(results):
    assert max(len(line) for line in shown(results, models=True).splitlines()) <= 80


def test_scores_gains_figures_and_reasons_are_there(results):
    text = shown(results)
    flat = " ".join(text.split())
    for one in results.summary:
        assert wording.score(one["score"]["value"], results.score) in text
    for finding in results.verdict.findings:
        for one in finding["gains"]:
            assert wording.gain(one["value"], results.score) in text
    for one in results.verdict.figures:
        assert wording.figure_words(one)[0] in text
    for cost in contents.all_costs(results).values():
        assert wording.seconds(cost["seconds"]["total"]) in text
        for part in ("trainable_parameters", "total_parameters", "flops_forward", "flops_training"):
            assert wording.quantity(cost[part]) in text
    assert ("energy" in text) == any(cell.energy_joules is not None for cell in results.cells)
    assert results.verdict.text in flat
    assert ("What was left out" in text) == any(not cell.done for cell in results.cells)


def test_a_model_is_shown_on_request(made):
    results = made["images"]
    assert "Most confidently wrong" not in shown(results)
    text = shown(results, models=True)
    detail = contents.detail_of(results, None)
    for one in detail["per_class"]:
        assert wording.percent(one["f1"]) in text
    for one in detail["calibration"]:
        assert wording.percent(one["confidence"]) in text
    assert wording.percent(detail["wrong"][0]["p"]) in text
    assert "Largest errors" in shown(made["numbers"], models=True)
    several = shown(made["tasks"], models=True)
    for detail in contents.details_of(made["tasks"], None):
        assert f"examples: {detail['task']}" in " ".join(several.split())
        assert wording.percent(detail["wrong"][0]["p"]) in several


def test_a_terminal_is_given_no_orders(made):
    plain = made["images"].to_dict()
    plain["verdict"]["text"] = "\x1b[2J[bold]gone[/bold]\x07\u202e :smile:"
    plain["techniques"][0]["title"] = "\x1b]0;title\x07"
    for detail in plain["details"]:
        detail["per_class"][0]["class"] = "[red]\x1b[31mash[/red]"
    text = shown(Results.from_dict(plain), models=True)
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "[bold]gone[/bold]" in text
    assert ":smile:" in text


def test_the_command_renders_again(made, tmp_path, capsys):
    file = made["tasks"].write(tmp_path / "found")
    assert main(["report", str(tmp_path / "found")]) == 0
    said = capsys.readouterr().out
    assert "Learning the tasks together pays here" in said
    assert (tmp_path / "found" / "report.html").read_text(encoding="utf-8") == reports.html(made["tasks"])
    (tmp_path / "found" / "report.html").unlink()
    assert main(["report", str(file), "--json"]) == 0
    assert (tmp_path / "found" / "report.html").is_file()
    page = str(tmp_path / "found" / "report.html")
    assert json.loads(capsys.readouterr().out) == {"report": page, **json.loads(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 2', '"format": 3', "format 3"),
        ('"kind": "graft comparison"', '"kind": "graft gossip"', "something else"),
        ('"n_train"', '"n_trained"', "n_train"),
        ('"calibration": [', '"calibration": [7, ', "calibration[0]"),
        ("{", "", "something else"),
        ('"techniques": [', '"techniques": [,', "cut off or damaged"),
    ],
)
def test_a_newer_or_changed_file_is_refused(old, new, message, made, tmp_path, capsys):
    file = made["images"].write(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    if message == "n_train":
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "report.html").exists()


def test_no_results_are_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere"), "--json"]) == 2
    assert '"remedy"' in capsys.readouterr().out
