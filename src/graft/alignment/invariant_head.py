"""A small network on features whose classes hold in both domains: the losses for networks, on frozen features."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from graft._checks import integer, number
from graft._runtime import generator, threads_per_operation
from graft.alignment.alignment import checked_features, classified_pair
from graft.alignment.scored_classifier import ScoredClassifier
from graft.alignment.softmax_temperature import softmax_temperature
from graft.alignment.standardization import DomainStandardization
from graft.errors import DataError, RequestError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from graft.alignment.adaptation_loss import AdaptationLoss

# Steps in which the rate of learning rises to its value.
_WARM_UP = 20
# What part of the steps learns labels alone: drawn together before they know the classes, the domains may meet in any
# order of these, as the first weights have it.
_LABELS_ALONE = 0.2
# What part of the source tells how sure the classifier may be.
_HELD_OUT = 5


@final
class InvariantHead(ScoredClassifier):
    r"""A bottleneck and a classifier on features, trained so that the classes hold in both domains.

    On features z, standardised in each domain by itself and of mean square one (`DomainStandardization`),

    .. math:: h = \max(0, A^T z + a), \qquad g = C h + c

    minimise, with the loss :math:`\ell` of a method for networks (`AdaptationLoss`) on batches of both domains,

    .. math::
        \frac{\sum_{i} w_i \, \mathrm{CE}(g(z_i), y_i)}{\sum_i w_i} + \ell(h_s, g_s, h_t, g_t)

    where i runs over the source, and over target examples with a label. It is what these methods do to the last layers
    of a network, on features that stay as they are: seconds, however many examples there are, because the number of
    steps is given. The first fifth of the steps learns the labels alone, since what is drawn together before it knows
    the classes may meet the wrong ones. AdamW (Loshchilov and Hutter, 2019), its rate rising for 20 steps and then
    falling as a cosine.

    Parameters
    ----------
    loss : AdaptationLoss, optional
        :math:`\ell`; None: `MCC`, minimum class confusion (Jin, Wang, Long and Wang, 2020).
    width : int
        Length of h.
    n_steps : int
        Steps.
    batch_size : int
        Examples of each domain in a step; of a smaller domain, all.
    learning_rate, weight_decay : float
        Of AdamW.
    random_state : int, Generator or None
        Draws the first weights and the batches.

    Attributes
    ----------
    classes_ : ndarray (K,)
    standardization_ : DomainStandardization
    bottleneck_, bottleneck_intercept_ : ndarray (d, width), (width,)
        A and a, for rows of unit length.
    coef_, intercept_ : ndarray (K, width), (K,)
        C and c.
    temperature_ : float
        Probabilities are softmax(g / temperature): as sure as a training without a fifth of the source could be of
        that.

    References
    ----------
    Long, Cao, Wang and Jordan (2018), Conditional Adversarial Domain Adaptation (a bottleneck on features).

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import CDAN, InvariantHead
    >>> draws = np.random.default_rng(0)
    >>> y = np.repeat(["ash", "elm"], 40)
    >>> X = draws.normal(size=(80, 3)) + np.where(y == "ash", 2, -2)[:, None]
    >>> target = X @ [[1, 0.5, 0], [0, 1, 0.5], [0.5, 0, 1]] + 3
    >>> head = InvariantHead(CDAN(hidden=(32,)), n_steps=100, random_state=0).fit(X, y, target=target)
    >>> float((head.predict(target) == y).mean()) > 0.95
    True
    """

    def __init__(
        self,
        loss: AdaptationLoss | None = None,
        *,
        width: int = 256,
        n_steps: int = 300,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
    ) -> None:
        self.loss = loss
        self.width = width
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X, y, *, target=None, target_labels=None, source_weight=None, target_weight=1.0) -> Self:
        """Fit to both domains.

        Parameters
        ----------
        X : array or sparse matrix (n_s, d)
            Source features.
        y : array (n_s,)
            Source labels, of any type that sorts.
        target : array or sparse matrix (n_t, d), optional
            Target features. None: the source stands for the target as well.
        target_labels : array (n_t,), optional
            Labels of the target inputs, None or NaN where they are missing.
        source_weight : array (n_s,), optional
            w of source examples, up to a factor; those of weight 0 take no part. It concerns their labels, not the
            likeness of the domains. By default all count the same.
        target_weight : float
            w of target examples with a label, in source examples of mean weight.

        Raises
        ------
        RequestError
            If an option is out of its range, or the loss is not for classes.
        DataError
            If there are fewer than two classes, the domains have different columns, labels or weights are of another
            length than their inputs, or a target label does not occur in the source.
        """
        import torch

        from graft.alignment.discrepancy import MCC

        width, steps = integer("width", self.width, low=1), integer("n_steps", self.n_steps, low=1)
        size = integer("batch_size", self.batch_size, low=1)
        rate = number("learning_rate", self.learning_rate, low=0.0, open_low=True)
        decay, known = number("weight_decay", self.weight_decay, low=0.0), number("target_weight", target_weight, low=0)
        loss = MCC() if self.loss is None else _for_classes(self.loss)
        pair, self.classes_, codes = classified_pair(self, X, y, target, target_labels)
        weight = _weights(source_weight, len(codes))
        used = weight > 0
        source, codes, weight = pair.source[used], codes[used], weight[used] / weight[used].mean()
        self.standardization_ = DomainStandardization().fit(source, target=pair.target)
        scale = math.sqrt(source.shape[1])
        draws = generator(self.random_state)
        training = _Training(
            source=self.standardization_.transform_source(source) * scale,
            codes=codes,
            weight=weight,
            target=self.standardization_.transform(pair.target) * scale,
            target_codes=pair.target_codes,
            target_weight=known,
            classes=len(self.classes_),
            loss=loss,
            width=width,
            steps=steps,
            size=size,
            rate=rate,
            decay=decay,
            seed=int(draws.integers(2**31)),
        )
        held = _held_out(codes, draws)
        learnt = [np.ones(len(codes), bool), *([~held] if held.any() else [])]
        runs = [training.begin(each) for each in learnt]
        # Side by side, each on one thread: products of so few rows only wait when they are divided among threads.
        with threads_per_operation(1), ThreadPoolExecutor(len(runs), "graft-head", torch.set_num_threads, (1,)) as pool:
            layers, *without = pool.map(_Run.layers, runs)
        bottleneck, self.bottleneck_intercept_, self.coef_, self.intercept_ = layers
        self.bottleneck_, self.temperature_ = bottleneck * scale, 1.0
        if without:
            scores = _scores(training.source[held], without[0])
            self.temperature_ = softmax_temperature(scores, np.eye(len(self.classes_))[codes[held]])
        return self

    def _scores(self, X: Any) -> np.ndarray:
        checked = checked_features(self, X).astype(np.float64, copy=False)
        features = self.standardization_.transform(checked)
        return _scores(features, (self.bottleneck_, self.bottleneck_intercept_, self.coef_, self.intercept_))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@dataclass(frozen=True, eq=False, kw_only=True)
class _Training:
    """Examples of both domains, and how to train on them. The rows of features have mean square one."""

    source: np.ndarray
    codes: np.ndarray
    weight: np.ndarray
    target: np.ndarray
    target_codes: np.ndarray
    target_weight: float
    classes: int
    loss: AdaptationLoss
    width: int
    steps: int
    size: int
    rate: float
    decay: float
    seed: int

    def begin(self, learnt: np.ndarray) -> _Run:
        """Return a training with the labels of some source examples (n_s,). Not from several threads at once."""
        import torch
        from torch import nn

        source, target = torch.from_numpy(self.source[learnt]).float(), torch.from_numpy(self.target).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            bottleneck, classifier = nn.Linear(source.shape[1], self.width), nn.Linear(self.width, self.classes)
        return _Run(
            plan=self,
            source=source,
            codes=torch.from_numpy(self.codes[learnt]),
            weight=torch.from_numpy(self.weight[learnt]).float(),
            target=target,
            target_codes=torch.from_numpy(self.target_codes),
            bottleneck=bottleneck,
            classifier=classifier,
            parts=self.loss.modules(self.width, self.classes, seed=self.seed),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Run:
    """One training: what it learns from, and the layers before their first step."""

    plan: _Training
    source: torch.Tensor
    codes: torch.Tensor
    weight: torch.Tensor
    target: torch.Tensor
    target_codes: torch.Tensor
    bottleneck: nn.Linear
    classifier: nn.Linear
    parts: nn.ModuleDict

    def layers(self) -> tuple[np.ndarray, ...]:
        """Train, and return A, a, C and c."""
        import torch
        from torch import nn
        from torch.nn import functional

        from graft.alignment.adaptation_loss import DomainOutputs

        plan, known = self.plan, np.flatnonzero(self.target_codes.numpy() >= 0)
        here, there = float(self.weight.sum()), plan.target_weight * len(known)
        trained = nn.ModuleList([self.bottleneck, self.classifier, self.parts]).parameters()
        optimizer = torch.optim.AdamW(trained, lr=plan.rate, weight_decay=plan.decay, fused=True)
        draws = np.random.default_rng(plan.seed)
        rows = (np.arange(len(self.source)), np.arange(len(self.target)), known)
        turns = [_Turns(each, plan.size, draws) for each in rows]
        begin = int(_LABELS_ALONE * plan.steps)
        for step in range(plan.steps):
            risen, fallen = min(1, (step + 1) / _WARM_UP), (1 + math.cos(math.pi * step / plan.steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * risen * fallen
            one, other, labelled = (torch.from_numpy(turn.rows()) for turn in turns)
            sizes = [len(one), len(other), len(labelled)]
            inputs = torch.cat([self.source[one], self.target[other], self.target[labelled]])
            features = torch.relu(self.bottleneck(inputs))
            logits, features = self.classifier(features).split(sizes), features.split(sizes)
            losses = functional.cross_entropy(logits[0], self.codes[one], reduction="none")
            total = here * (self.weight[one] * losses).mean()
            if len(labelled):
                total = total + there * functional.cross_entropy(logits[2], self.target_codes[labelled])
            total = total / (here + there)
            if step >= begin:
                both = DomainOutputs(
                    features[0], logits[0], self.codes[one], features[1], logits[1], self.target_codes[other]
                )
                progress = (step - begin) / (plan.steps - begin)
                total = total + plan.loss.loss(both, modules=self.parts, progress=progress)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        arrays = self.bottleneck.weight.T, self.bottleneck.bias, self.classifier.weight, self.classifier.bias
        return tuple(array.detach().double().contiguous().numpy() for array in arrays)


class _Turns:
    """Batches of some rows, none of which comes again before a new turn; all at once where they are few."""

    def __init__(self, rows: np.ndarray, size: int, draws: np.random.Generator) -> None:
        self._rows, self._size, self._draws = rows, size, draws
        self._left = rows[:0]

    def rows(self) -> np.ndarray:
        if len(self._rows) <= self._size:
            return self._rows
        if len(self._left) < self._size:
            self._left = self._draws.permutation(self._rows)
        taken, self._left = self._left[: self._size], self._left[self._size :]
        return taken


def _scores(features: np.ndarray, layers: tuple[np.ndarray, ...]) -> np.ndarray:
    bottleneck, bottleneck_intercept, coefficients, intercept = layers
    return np.maximum(features @ bottleneck + bottleneck_intercept, 0) @ coefficients.T + intercept


def _held_out(codes: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return which source examples (n_s,) tell the temperature: a fifth of each class, rounded down."""
    held = np.zeros(len(codes), dtype=bool)
    for code in np.unique(codes):
        rows = draws.permutation(np.flatnonzero(codes == code))
        held[rows[: len(rows) // _HELD_OUT]] = True
    return held


def _for_classes(loss: Any) -> AdaptationLoss:
    from graft.alignment.adaptation_loss import AdaptationLoss

    if not isinstance(loss, AdaptationLoss) or "classification" not in loss.tasks:
        raise RequestError(
            "loss",
            expected="a loss of graft.alignment for classes, such as MCC() or CDAN()",
            found=repr(loss),
            remedy="Pass one of graft.alignment.ADAPTATION_LOSSES, or None.",
        )
    return loss


def _weights(weight: Any, rows: int) -> np.ndarray:
    if weight is None:
        return np.ones(rows)
    values = np.asarray(weight, dtype=np.float64)
    if values.shape != (rows,) or not np.isfinite(values).all() or (values < 0).any() or not (values > 0).any():
        raise DataError(
            "source_weight",
            expected=f"{rows} finite numbers, none below 0 and one or more above it",
            found=f"an array of shape {values.shape}" if values.shape != (rows,) else f"from {values.min():g}",
            remedy="Give every source example a weight.",
        )
    return values
