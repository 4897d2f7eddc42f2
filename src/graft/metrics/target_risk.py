"""How good a model is on a target domain of which no label is known.

Every score is a function of arrays that returns a `RiskScore`: a value, whether larger is better, and what kind of
*evidence* it rests on. Scores of one kind are deceived together, so that no number of them makes a majority:

===============  ===================================================  ===============================
evidence         scores                                               is deceived by
===============  ===================================================  ===============================
weighted source  importance-weighted error and log loss, DEV          shifts that no weight mends
confidence       entropy, mutual information, nuclear norm, ATC, DoC  certainty without knowledge
density          soft neighbourhood density                           one answer for everything
clusters         agreement with the clusters of the target features   classes that are no clusters
circle           reverse validation                                   errors that the way back undoes
committee        agreement with the mean of all candidates            candidates that err alike
===============  ===================================================  ===============================

Those that need labelled source examples beside the answers stand in `graft.metrics.source_risk`.
`graft.metrics.candidate_scores` takes them all of several candidates, `graft.metrics.tournament` sets them against each
other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft._checks import integer, number
from graft.errors import RequestError


@dataclass(frozen=True)
class RiskScore:
    """One estimate, without target labels, of how good a model is on the target.

    Attributes
    ----------
    name : str
        Of the score.
    value : float
        In the score's own unit; NaN where the score says nothing about this model.
    larger_is_better : bool
        The direction.
    evidence : str
        What it rests on: ``"weighted source"``, ``"confidence"``, ``"density"``, ``"clusters"``, ``"circle"`` or
        ``"committee"``.
    """

    name: str
    value: float
    larger_is_better: bool
    evidence: str

    @property
    def merit(self) -> float:
        """The value with its sign turned, where needed, so that larger is better."""
        return self.value if self.larger_is_better else -self.value


def calibrate(source_labels: Any, source_probabilities: Any, probabilities: Any, classes: Any) -> np.ndarray:
    r"""Return the target's probabilities as sure as the model may be by what it is worth on held-out source examples.

    :math:`p_k^\beta / \sum_j p_j^\beta` with the β of smallest log loss on the source (temperature scaling). Scores of
    confidence compare models: without this they reward whoever claims most. Labels are smoothed by 1/(n + 1), without
    which a model that is never wrong on the source would have no finite β.

    Parameters
    ----------
    source_labels, source_probabilities, probabilities, classes
        As in `thresholded_confidence`.

    Returns
    -------
    probabilities : array (n_target, K)

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    _, held_out, table = _source_and_target(source_labels, source_probabilities, probabilities, classes)
    hit = (np.asarray(source_labels)[:, None] == np.asarray(classes)[None, :]).astype(np.float64)
    n, count = hit.shape
    truth = (n * hit + 1 / count) / (n + 1)
    # Centred, so that the exponential of no scaled logit is infinite. Probabilities of exactly 0 become 1e-30.
    known, asked = (np.log(np.clip(part, 1e-30, None)) for part in (held_out, table))
    known, asked = (part - part.max(axis=1, keepdims=True) for part in (known, asked))

    def loss(log_beta: float) -> float:
        scaled = np.exp(log_beta) * known
        return float((np.log(np.exp(scaled).sum(axis=1)) - (truth * scaled).sum(axis=1)).mean())

    beta = np.exp(minimize_scalar(loss, bounds=(-9.0, 4.0), method="bounded").x)
    sharpened = np.exp(beta * asked)
    return sharpened / sharpened.sum(axis=1, keepdims=True)


def mean_entropy(probabilities: Any) -> RiskScore:
    r"""Return the mean entropy of the answers on the target, in nats: :math:`-\frac1n\sum_{ik} p_{ik}\log p_{ik}`.

    References
    ----------
    Morerio, Cavazza and Murino (2018), Minimal-Entropy Correlation Alignment (selection by entropy).
    """
    return RiskScore(
        "entropy", float(_entropy(check_probabilities("probabilities", probabilities)).mean()), False, "confidence"
    )


def mutual_information(probabilities: Any) -> RiskScore:
    r"""Return the mutual information between target inputs and answers, in nats: certain and diverse.

    .. math:: I = H\Bigl(\frac1n \sum_i p_i\Bigr) - \frac1n \sum_i H(p_i)

    References
    ----------
    Bridle, Heading and MacKay (1991), Unsupervised Classifiers, Mutual Information and 'Phantom Targets'.
    """
    table = check_probabilities("probabilities", probabilities)
    value = _entropy(table.mean(axis=0, keepdims=True))[0] - _entropy(table).mean()
    return RiskScore("mutual-information", float(value), True, "confidence")


def nuclear_norm(probabilities: Any) -> RiskScore:
    r"""Return the nuclear norm of the target's answers, :math:`\lVert P\rVert_* / \sqrt{n \min(n, K)}`, in (0, 1].

    One means certain answers in equal shares.

    References
    ----------
    Cui et al. (2020), Towards Discriminability and Diversity: Batch Nuclear-norm Maximization.
    """
    table = check_probabilities("probabilities", probabilities)
    # The singular values of P are the roots of the eigenvalues of its K x K Gram matrix.
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(table.T @ table), 0, None))
    return RiskScore("nuclear-norm", float(singular.sum() / np.sqrt(len(table) * min(table.shape))), True, "confidence")


def soft_neighborhood_density(probabilities: Any, *, temperature: float = 0.05) -> RiskScore:
    r"""Return SND: how many soft neighbours a target example has among the answers, as an entropy in nats.

    .. math:: P_{ij} = \frac{\exp(\langle z_i, z_j\rangle / \tau)}{\sum_{k \ne i} \exp(\langle z_i, z_k\rangle/\tau)},
        \qquad \mathrm{SND} = -\frac1n \sum_i \sum_{j \ne i} P_{ij} \log P_{ij}

    with z the softmax outputs at length one. A model that gives one answer to everything has the highest density of
    all: the score is only for comparisons in which something else speaks up for diversity. Of one example alone it says
    nothing (NaN).

    Parameters
    ----------
    probabilities : array (n, K)
        On the target.
    temperature : float
        τ; 0.05 in the paper.

    References
    ----------
    Saito, Kim, Teterwak, Sclaroff, Darrell and Saenko (2021), Tune it the Right Way: Unsupervised
    Validation of Domain Adaptation via Soft Neighborhood Density.
    """
    tau = number("temperature", temperature, low=0, open_low=True)
    table = check_probabilities("probabilities", probabilities)
    if len(table) == 1:  # which has no neighbour
        return RiskScore("snd", math.nan, True, "density")
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    total, n = 0.0, len(unit)
    for start in range(0, n, 1000):  # 1,000 rows of n similarities at a time
        rows = unit[start : start + 1000] @ unit.T / tau
        rows[np.arange(len(rows)), np.arange(start, start + len(rows))] = -np.inf
        rows -= rows.max(axis=1, keepdims=True)
        share = np.exp(rows)
        sums = share.sum(axis=1)
        # -sum p log p = log Z - sum p s; the row's own place has p = 0.
        rows[np.isneginf(rows)] = 0.0
        total += float((np.log(sums) - (share * rows).sum(axis=1) / sums).sum())
    return RiskScore("snd", total / n, True, "density")


def thresholded_confidence(
    source_labels: Any, source_probabilities: Any, probabilities: Any, classes: Any
) -> RiskScore:
    r"""Return ATC: the target accuracy as the share of target examples above a confidence learnt on the source.

    .. math:: \hat a_T = \frac1n \sum_i 1[s(p_i) \ge t], \qquad
        \frac1{n_S} \sum_j 1[s(p^S_j) < t] = \frac1{n_S} \sum_j 1[\hat y_j \ne y_j]

    with s the negative entropy. Of examples exactly at t, the same fraction counts on the target as on the source
    (the paper has no ties; a model that is equally sure of everything is so given its source accuracy, not 1).

    Parameters
    ----------
    source_labels : array (n_source,)
        Of source examples that the model was not fitted on.
    source_probabilities, probabilities : array (n_source, K), (n_target, K)
        What the model answers on those, and on the target.
    classes : array (K,)
        The class of each column.

    References
    ----------
    Garg, Balakrishnan, Lipton, Neyshabur and Sedghi (2022), Leveraging Unlabeled Data to Predict Out-of-Distribution
    Performance.
    """
    right, held_out, table = _source_and_target(source_labels, source_probabilities, probabilities, classes)
    known, asked = np.sort(np.round(-_entropy(held_out), 9)), np.round(-_entropy(table), 9)
    wrong = int((~right).sum())
    if wrong == len(known):
        return RiskScore("atc", 0.0, True, "confidence")
    threshold = known[wrong]
    first, last = np.searchsorted(known, threshold, "left"), np.searchsorted(known, threshold, "right")
    counted = (last - wrong) / (last - first)
    value = (asked > threshold).mean() + counted * (asked == threshold).mean()
    if wrong == 0:
        # Nothing was wrong on the source: its least sure example sets no limit.
        value = 1.0
    return RiskScore("atc", float(value), True, "confidence")


def confidence_difference(source_labels: Any, source_probabilities: Any, probabilities: Any, classes: Any) -> RiskScore:
    r"""Return DoC: the held-out source accuracy, less what confidence falls from source to target.

    .. math:: \hat a_T = a_S - \Bigl(\frac1{n_S}\sum_i \max_k p^S_{ik} - \frac1{n_T}\sum_i \max_k p^T_{ik}\Bigr)

    The paper also regresses accuracy on this difference over known shifts; here there are none.

    Parameters
    ----------
    source_labels, source_probabilities, probabilities, classes
        As in `thresholded_confidence`.

    References
    ----------
    Guillory, Shankar, Ebrahimi, Darrell and Schmidt (2021), Predicting with Confidence on Unseen Distributions.
    """
    right, held_out, table = _source_and_target(source_labels, source_probabilities, probabilities, classes)
    value = right.mean() - (held_out.max(axis=1).mean() - table.max(axis=1).mean())
    return RiskScore("doc", float(value), True, "confidence")


def target_clusters(features: Any, clusters: int, *, random_state: int = 0) -> np.ndarray:
    """Return the cluster of each target example, (n,): k-means, of standardised features at length one.

    Columns are standardised, rows of more than two columns brought to length one (the angle is what pretrained features
    tell classes by), and more than 50 columns reduced to their 50 principal components. All candidates must be judged
    by the *same* clusters, of the features before adaptation: in a model's own space, collapse looks like order.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    table = np.asarray(features, dtype=np.float64)
    integer("clusters", clusters, low=1, high=len(table))
    spread = table.std(axis=0)
    table = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if table.shape[1] > 2:
        table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    if min(table.shape) > 50:
        table = PCA(50, random_state=random_state).fit_transform(table)
    return KMeans(clusters, n_init=5, random_state=random_state).fit(table).labels_


def cluster_agreement(predictions: Any, clusters: Any) -> RiskScore:
    """Return how well predicted classes are the clusters of the target, as adjusted mutual information.

    One means the same partition, zero what chance gives; one class for everything gives zero.

    Parameters
    ----------
    predictions : array (n,)
        The predicted labels.
    clusters : array (n,)
        Of the same examples: `target_clusters`.

    References
    ----------
    Musgrave, Belongie and Lim (2022), Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain
    Adaptation (ClassAMI, which uses each model's own features).
    """
    from sklearn.metrics import adjusted_mutual_info_score

    guess, found = np.asarray(predictions), np.asarray(clusters)
    check_same_length("predictions", len(guess), len(found))
    value = adjusted_mutual_info_score(np.unique(guess, return_inverse=True)[1], found)
    return RiskScore("cluster-agreement", float(value), True, "clusters")


def committee_agreement(answers: Mapping[str, Any], *, numbers: bool = False) -> dict[str, RiskScore]:
    r"""Return, for each candidate, how often its answer is that of the mean of all candidates.

    .. math:: a_m = \frac1n \sum_i 1\Bigl[\arg\max_k p^m_{ik} = \arg\max_k \sum_{m'} p^{m'}_{ik}\Bigr]

    For numbers, the root mean square distance to the candidates' mean: smaller is better.

    Parameters
    ----------
    answers : mapping of str to array (n, K)
        Probabilities on the target, columns in one order; or numbers (n,) or (n, outputs).
    numbers : bool
        Whether they are numbers.

    References
    ----------
    Hu et al. (2024), Towards Reliable Model Selection for Unsupervised Domain Adaptation (EnsV).
    """
    tables = {
        name: np.asarray(table, dtype=np.float64) if numbers else check_probabilities(f"answers of {name!r}", table)
        for name, table in answers.items()
    }
    if len({table.shape for table in tables.values()}) != 1:
        raise RequestError(
            "answers",
            expected="arrays of one shape",
            found=", ".join(f"{name}: {table.shape}" for name, table in tables.items()) or "none",
            remedy="Let every candidate answer the same examples, with the same classes.",
        )
    mean = np.mean(list(tables.values()), axis=0)
    if numbers:
        return {
            name: RiskScore("committee", float(np.sqrt(np.mean((table - mean) ** 2))), False, "committee")
            for name, table in tables.items()
        }
    vote = mean.argmax(axis=1)
    return {
        name: RiskScore("committee", float((table.argmax(axis=1) == vote).mean()), True, "committee")
        for name, table in tables.items()
    }


def _entropy(table: np.ndarray) -> np.ndarray:
    """Return the entropy of each row, in nats."""
    return -(table * np.log(np.clip(table, 1e-300, None))).sum(axis=1)


def _source_and_target(
    source_labels: Any, source_probabilities: Any, probabilities: Any, classes: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which source examples are answered rightly, and both checked tables."""
    held_out = check_probabilities("source_probabilities", source_probabilities)
    table = check_probabilities("probabilities", probabilities)
    labels = np.asarray(source_labels)
    check_same_length("source_labels", len(labels), len(held_out))
    check_same_length("columns of probabilities", table.shape[1], held_out.shape[1])
    return labels == np.asarray(classes)[held_out.argmax(axis=1)], held_out, table


def check_same_length(subject: str, found: int, expected: int) -> None:
    """Raise a `RequestError` unless there are as many examples as expected, and some."""
    if found != expected or not expected:
        raise RequestError(
            subject,
            expected=f"{expected or 'one or more'} examples",
            found=str(found),
            remedy="Pass both for the same examples.",
        )


def check_probabilities(subject: str, values: Any) -> np.ndarray:
    """Return a table of probabilities in float64, or say what is wrong with it."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise RequestError(
            subject,
            expected="probabilities of shape (n, K)",
            found=f"shape {table.shape}",
            remedy="Pass what predict_proba returns.",
        )
    if not np.isfinite(table).all() or table.min() < -1e-6 or np.abs(table.sum(axis=1) - 1).max() > 1e-3:
        raise RequestError(
            subject,
            expected="rows of probabilities that sum to one",
            found=f"values from {table.min():g} to {table.max():g}, row sums from {table.sum(axis=1).min():g} to "
            f"{table.sum(axis=1).max():g}",
            remedy="Pass what predict_proba returns; logits need a softmax.",
        )
    return np.clip(table, 0.0, None)
