"""`tickets`: short messages of customers, with three tasks and two domains."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np

from graft import _checks
from graft.data.domain import Domain

TICKET_DOMAINS: tuple[str, ...] = ("bank", "telecom")
TICKET_INTENTS: tuple[str, ...] = (
    "billing_dispute",
    "cancellation",
    "change_details",
    "fee_question",
    "login_problem",
    "lost_item",
    "service_failure",
    "upgrade",
)
TICKET_TASKS: tuple[str, ...] = ("intent", "urgency", "sentiment")
_COLUMNS = ("text", "domain", *TICKET_TASKS)


def tickets(domain: str | None = "bank") -> Domain:
    """Return short messages that customers might write to their bank or to their telephone company.

    560 messages in English, 35 for each of eight intents in each domain, each written for this project on its own (no
    templates) and in the public domain (CC0 1.0). The intents are the same in both domains, the words are not: a lost
    item is a card there and a SIM here. Urgency and sentiment are what the message conveys; neither follows from the
    intent.

    Parameters
    ----------
    domain : {"bank", "telecom"} or None
        Whose customers; None: both, with the name of its domain as the group of each message.

    Returns
    -------
    Domain
        `inputs` is an object array (n,) of str; `labels` an object array (n, 3) of str with the columns `tasks`:
        ``"intent"`` (one of `TICKET_INTENTS`), ``"urgency"`` (``"low"``, ``"medium"``, ``"high"``) and ``"sentiment"``
        (``"negative"``, ``"neutral"``, ``"positive"``).

    Raises
    ------
    RequestError
        If `domain` is neither.

    Examples
    --------
    >>> from graft.data.samples import tickets
    >>> bank = tickets("bank")
    >>> bank.size, bank.tasks
    (280, ('intent', 'urgency', 'sentiment'))
    >>> print(bank.inputs[36], *bank.labels[36], sep=" | ")
    What happens to my standing orders when I close the account? | cancellation | low | neutral
    """
    rows = _rows(domain)
    inputs = np.array([row[0] for row in rows], dtype=object)
    labels = np.array([row[2:] for row in rows], dtype=object)
    if domain is not None:
        return Domain(inputs, labels, name=f"tickets ({domain})", tasks=TICKET_TASKS)
    return Domain(inputs, labels, name="tickets", groups=np.array([row[1] for row in rows]), tasks=TICKET_TASKS)


def write_tickets(path: str | Path, domain: str | None = None) -> Path:
    """Write the messages of `tickets` as a CSV file with the columns text, domain, intent, urgency and sentiment.

    Parameters
    ----------
    path : str or Path
        The file to write, in UTF-8; its folder is made if it is not there, the file overwritten if it is.
    domain : {"bank", "telecom"} or None
        Whose customers; None: both.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RequestError
        If `domain` is neither.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from graft.data.samples import write_tickets
    >>> with tempfile.TemporaryDirectory() as place:
    ...     print(write_tickets(Path(place) / "tickets.csv").read_text(encoding="utf-8").splitlines()[0])
    text,domain,intent,urgency,sentiment
    """
    rows = _rows(domain)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(rows)
    return target


def _rows(domain: str | None) -> list[tuple[str, ...]]:
    if domain is not None:
        domain = _checks.one_of("domain", domain, TICKET_DOMAINS)
    return [row for row in _table() if domain in (None, row[1])]


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[str, ...], ...]:
    with Path(__file__).with_name("tickets.csv").open(newline="", encoding="utf-8") as stream:
        return tuple(tuple(row[column] for column in _COLUMNS) for row in csv.DictReader(stream))
