"""Joint distribution adaptation, plain and balanced: brings the means of domains and of their classes together."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from graft._checks import integer, number
from graft.alignment.alignment import DomainPair
from graft.alignment.component_analysis import ComponentAnalysis
from graft.alignment.contrasts import discrepancy_contrasts
from graft.alignment.domain_distance import balance_factor, proxy_a_distance


@final
class JointDistributionAdaptation(ComponentAnalysis):
    r"""Components with large variance in which domains, and each class in both, have nearly the same mean.

    Long, Wang, Ding, Sun and Yu, "Transfer feature learning with joint distribution adaptation" (2013, equations 8 to
    11); with `balance`, Wang, Chen, Hao, Feng and Shen, "Balanced distribution adaptation for transfer learning" (2017,
    equation 6):

    .. math:: \max_A \operatorname{tr} A^T X^T H X A \quad\text{subject to}\quad A^T (X^T M X + \lambda I) A = I,
        \qquad M = (1 - \mu) C M_0 + \mu \sum_{c=1}^C M_c

    :math:`M_0 = e_0 e_0^T` compares the means of the domains, :math:`M_c` those of class c, whose target examples are
    known by pseudo-labels: a classifier of the source's components labels the target, and the problem is solved again.
    The first round has no pseudo-labels: it is transfer component analysis, with the given target labels if there are
    any. M is divided by its norm. The papers leave out the factor C; with it, as in the authors' code, both halves of M
    have like weight, and :math:`\mu = \frac12` is the joint method. A class that occurs in one domain alone gives no
    term.

    Parameters
    ----------
    n_components : int
        At most the rank.
    kernel, gamma, regularization
        As in `graft.alignment.TransferComponentAnalysis`; λ is `regularization`.
    balance : float in [0, 1], optional
        μ: 0 compares the domains alone, 1 the classes alone. None: estimated in each round from how well a linear
        classifier tells the domains, and the two sides of each class, apart (Wang et al., 2018).
    classifier : classifier, optional
        Gives the pseudo-labels; a copy is fitted to the components of the source and of labelled target inputs. None:
        the label of the example at the smallest angle, as in the paper.
    max_iter : int
        Most rounds. They end early when no pseudo-label changes.

    Attributes
    ----------
    classes_ : ndarray (C,)
    pseudo_labels_ : ndarray (n_t,)
        Labels of the target after the last round: those given, and the classifier's for the others.
    balance_ : float
        μ of the last round.
    history_ : list of dict
        For each round: ``changed``, the share of target labels that differ from those of the round before (1 in the
        first), ``balance``, and ``discrepancy``, the squared distance tr A'X'MXA beside the variance tr A'X'HXA.
    map_, eigenvalues_, mean_, anchors_, gamma_
        As in `graft.alignment.TransferComponentAnalysis`.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import JointDistributionAdaptation
    >>> draws = np.random.default_rng(0)
    >>> y = np.repeat(["cat", "dog"], 50)
    >>> source = draws.normal(size=(100, 3)) + np.where(y == "cat", 3, -3)[:, None] * [2, 0, 0]
    >>> target = source + draws.normal(size=(100, 3)) / 10 + [0, 0, 40]
    >>> joint = JointDistributionAdaptation(n_components=2).fit(source, y, target=target)
    >>> float((joint.pseudo_labels_ == y).mean())
    1.0
    """

    def __init__(
        self,
        *,
        n_components: int = 50,
        kernel: str = "primal",
        gamma: float | None = None,
        regularization: float = 1.0,
        balance: float | None = 0.5,
        classifier: Any = None,
        max_iter: int = 10,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.regularization = regularization
        self.balance = balance
        self.classifier = classifier
        self.max_iter = max_iter

    @property
    def _needs_labels(self) -> bool:
        return True

    def _solve(self, pair: DomainPair) -> int:
        assert pair.classes is not None
        assert pair.source_codes is not None
        rounds = integer("max_iter", self.max_iter, low=1)
        given = None if self.balance is None else number("balance", self.balance, low=0.0, high=1.0)
        self.classes_ = pair.classes
        space = self._space(pair)
        coordinates = space.problem.coordinates
        rows = len(pair.source)
        known = pair.target_codes >= 0
        labelled = np.concatenate([np.full(rows, True), known])
        codes = pair.target_codes
        self.history_: list[dict[str, float]] = []
        components = None
        if given is None:
            # In one unit, so that the classifiers that tell the domains apart do not depend on that of the features.
            unit = np.sqrt(max(np.concatenate([pair.source, pair.target]).var(axis=0).sum(), 1e-300))
            centre = np.concatenate([pair.source, pair.target]).mean(axis=0)
            sides = (pair.source - centre) / unit, (pair.target - centre) / unit
            marginal = proxy_a_distance(*sides)
        for self.n_iter_ in range(1, rounds + 1):
            balance = given
            if balance is None:
                # Without any class there is nothing to weigh: the domains alone.
                some = codes >= 0
                both = np.intersect1d(codes[some], pair.source_codes).size > 0
                balance = balance_factor(*sides, pair.source_codes, codes, marginal=marginal) if both else 0.0
            self.balance_ = balance
            contrasts = discrepancy_contrasts(pair.source_codes, codes, len(pair.classes), balance)
            components, self.eigenvalues_ = space.problem.solve(
                contrasts, ridge=self.regularization, count=self.n_components, start=components
            )
            mapped = coordinates @ components
            before, codes = codes, pair.target_codes.copy()
            if not known.all():
                every = np.concatenate([pair.source_codes, pair.target_codes])
                classifier = _nearest_angle() if self.classifier is None else clone(self.classifier)
                classifier.fit(mapped[labelled], every[labelled])
                codes[~known] = classifier.predict(mapped[rows:][~known])
            self.history_.append(
                {
                    "changed": float((before != codes).mean()),
                    "balance": float(balance),
                    "discrepancy": float(((contrasts.T @ mapped) ** 2).sum() / max((mapped**2).sum(), 1e-300)),
                }
            )
            if np.array_equal(before, codes):
                break
        self.pseudo_labels_ = self.classes_[codes]
        assert components is not None
        return self._adopt(space, components)


def _nearest_angle() -> Any:
    return make_pipeline(Normalizer(), KNeighborsClassifier(1))
