"""``graft check``: what is wrong with the data, before a second is spent training."""

from __future__ import annotations

from graft.cli.options import Data, Group, Image, Json, Label, Text, label_columns
from graft.cli.show import print_json


def check(
    data: Data, *, text: Text = None, image: Image = None, label: Label = None, group: Group = None, json: Json = False
) -> int:
    """Look for what would harm a training: broken files, duplicates, leaks between splits, odd labels.

    Exit code 1 when something would.
    """
    from graft.data import check as examine

    report = examine(data, image=image, text=text, labels=label_columns(label), group=group)
    if json:
        print_json(report.to_dict())
    else:
        print(report)
    return 1 if report.harmful else 0
