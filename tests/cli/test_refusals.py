"""Every command, given what it cannot use: exit code 2 and one message, or one JSON object, with a remedy."""

import json

import pytest

from graft.cli import main

SENTENCES = [f"{word} {thing}" for word in ("red", "blue", "old", "new") for thing in ("car", "house", "tree", "book")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of small tables, some of which cannot be used."""
    from graft.data.samples import write_leaves

    folder = tmp_path_factory.mktemp("tables")
    colours = [text.split()[0] for text in SENTENCES]

    def table(name, header, rows):
        (folder / name).write_text("\n".join([header, *rows]) + "\n")

    table("colours.csv", "text,colour", [f"{text},{label}" for text, label in zip(SENTENCES, colours, strict=True)])
    table("two.csv", "text,colour,age", [f"{text},{text[:3]},{text[-3:]}" for text in SENTENCES])
    table("one_class.csv", "text,colour", [f"{text},same" for text in SENTENCES])
    table("unlabelled.csv", "text", SENTENCES)
    table("no_rows.csv", "text,colour", [])
    table("few.csv", "text,colour", ["red car,red", "blue car,blue"])
    (folder / "nothing.csv").touch()
    (folder / "other").mkdir()
    (folder / "other" / "notes.txt").write_text("no data")
    write_leaves(folder / "photos", per_class=1, size=48)
    assert main(["fit", f"{folder}/colours.csv", "--out", f"{folder}/run", "--json"]) == 0
    return folder


REFUSED = [
    ("fit missing.csv --out new", "nothing there"),
    ("fit no_rows.csv --out new", "at least one row"),
    ("fit nothing.csv --out new", "empty file"),
    ("fit other --out new", "images"),
    ("fit unlabelled.csv --out new", "labels"),
    ("fit one_class.csv --out new", "class"),
    ("fit colours.csv --label color --out new", "colour"),
    ("fit two.csv --out new", "--label"),
    ("fit colours.csv --technique fine-tunning --out new", "fine-tuning"),
    ("fit colours.csv --head logstic --out new", "logistic"),
    ("fit colours.csv --backbone minilmm --out new", "minilm"),
    ("fit colours.csv --backbone efficientnet_lite0 --out new", "minilm"),
    ("fit photos --backbone minilm --out new", "efficientnet_lite0"),
    ("fit colours.csv --technique domain-adaptation --out new", "--target"),
    ("fit colours.csv --target photos --out new", "text"),
    ("fit colours.csv --technique multi-task --label colour --label size --out new", "size"),
    ("fit colours.csv --out colours.csv", "colours.csv"),
    ("predict missing colours.csv --out new.csv", "missing"),
    ("predict other colours.csv --out new.csv", "other"),
    ("predict run photos --out new.csv", "text"),
    ("predict run unlabelled.csv --reject 2 --out new.csv", "reject"),
    ("evaluate run unlabelled.csv", "--label"),
    ("evaluate run photos", "text"),
    ("evaluate run missing.csv", "nothing there"),
    ("embed colours.csv --out new.csv", ".parquet"),
    ("embed colours.csv --backbone efficientnet_lite0 --out new.parquet", "minilm"),
    ("compare unlabelled.csv --out new", "label"),
    ("compare one_class.csv --out new", "class"),
    ("compare colours.csv --target unlabelled.csv --out new", "labels"),
    ("compare colours.csv --target photos --out new", "text"),
    ("compare colours.csv --technique foo --out new", "feature-extraction"),
    ("compare colours.csv --budget 5x --out new", "--budget"),
    ("fit colours.csv --budget 5x --out new", "--budget"),
    ("advise colours.csv --budget -1s", "--budget"),
    ("compare colours.csv --labels five --out new", "--labels"),
    ("compare colours.csv --labels ² --out new", "--labels"),
    ("compare colours.csv --test 2 --out new", "test"),
    ("compare colours.csv --backbone minilmm --out new", "--backbone"),
    ("compare colours.csv --task several --out new", "--task"),
    ("compare two.csv --label colour --label age --task multilabel --out new", "zeros and ones"),
    ("advise colours.csv --task several", "--task"),
    ("advise colours.csv --layer nowhere", "--layer"),
    ("compare colours.csv --out other", "other"),
    ("rank unlabelled.csv", "label"),
    ("rank one_class.csv", "class"),
    ("rank photos --backbone minilm", "minilm"),
    ("rank colours.csv --layer nowhere --backbone minilm", "nowhere"),
    ("rank colours.csv --head nothing --backbone minilm", "--head"),
    ("rank colours.csv --backbone minilmm", "--backbone"),
    ("report missing", "missing"),
    ("report other", "other"),
    ("check missing.csv", "nothing there"),
    ("check colours.csv --label color", "colour"),
    ("store --clear --backbone nowhere", "minilm"),
    ("store --backbone nowhere", "minilm"),
    ("fit", "DATA"),
    ("fitt colours.csv", "fit"),
    ("compare colours.csv --out new --seeds 0", "--seeds"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_cannot_be_used_is_refused_in_one_message(line, said, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    words = line.split()
    assert main(words) == 2
    out, message = capsys.readouterr()
    assert out == ""
    assert message.startswith("graft: ")
    assert said in message
    assert len(message.strip().split("\n")) == 2
    assert main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"message", "remedy"}
    assert all(error.values())
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["tables", "json"])
def test_a_comparison_of_which_every_cell_failed_is_an_error(words, tmp_path, capsys):
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "photos" / name / f"{number}.jpg").write_text(f"no picture {name}{number}")
    few = ["--technique", "raw-input", "--labels", "2", "--seeds", "1"]
    assert main(["compare", str(tmp_path / "photos"), "--out", str(tmp_path / "report"), *few, *words]) == 2
    out, err = capsys.readouterr()
    said = json.loads(out)["error"]["message"] if words else err
    assert "expected data on which something can be measured, found 1 cell that failed (inputs: " in said
    assert "report.html" in (out if words else err)
    assert (tmp_path / "report" / "results.json").exists()
