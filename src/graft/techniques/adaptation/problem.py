"""What is to be adapted: labelled source features, target features, and what is known of the target's labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy import sparse
from scipy.special import softmax

from graft import importance
from graft.backbones import Embedding
from graft.data import Domain, Task, check_classes
from graft.data.values import missing
from graft.errors import DataError
from graft.heads.training_set import apply_scaling, location_and_scale
from graft.importance import Weights, diagnose, domain_auc, mmd_test
from graft.importance.diagnosis import differ
from graft.importance.two_sample import AucTest, MmdTest
from graft.techniques.kept_heads import KeptHeads
from graft.techniques.labelled import Labelled
from graft.techniques.technique import labelled_rows, targets_of, task_labels

# A labelled target example counts as much as this many of the source at most.
_MOST = 20.0
# A source example counts at least this much of the mean: a class that looks like nothing in the target stays a class.
_LEAST = 1e-3


@dataclass(frozen=True, eq=False)
class Problem:
    """A labelled source and a target, as features.

    Parameters
    ----------
    task : Task
        What is predicted.
    source : array or sparse matrix (n_s, d)
        Features.
    targets : array (n_s,) or (n_s, columns)
        The source's labels as heads take them.
    weight : array (n_s,)
        What each source example counts.
    groups : array (n_s,) or None
        Source examples of one group are never divided by a fold.
    target : array or sparse matrix (n_t, d)
        Features.
    known : array of int (m,)
        The target's rows that have a label.
    known_targets : array (m,) or (m, columns)
        Those labels.
    new_head : callable
        Returns an unfitted head.
    class_weight : "balanced", dict or None
        What the head counts each class.
    random_state : int
        Decides whatever a method draws.
    kept : KeptHeads
        Where heads fitted on the source's own features are kept.
    """

    task: Task
    source: Any
    targets: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None
    target: Any
    known: np.ndarray
    known_targets: np.ndarray
    new_head: Callable[[], Any]
    class_weight: Any
    random_state: int
    kept: KeptHeads = field(default_factory=KeptHeads)

    @cached_property
    def scaling(self) -> tuple[np.ndarray, np.ndarray]:
        """Location and scale (d,) of the features of both domains together; see `location_and_scale`."""
        both = stacked(self.source, self.target)
        return location_and_scale(both, np.ones(both.shape[0]), scaling="auto")

    @cached_property
    def scaled(self) -> tuple[Any, Any]:
        """Source and target features, scaled alike."""
        return apply_scaling(self.source, *self.scaling), apply_scaling(self.target, *self.scaling)

    @cached_property
    def tests(self) -> tuple[AucTest, MmdTest]:
        """How well a classifier, and the means in a kernel's space, tell the domains apart."""
        return (
            domain_auc(self.source, self.target, random_state=self.random_state),
            mmd_test(self.source, self.target, random_state=self.random_state),
        )

    @property
    def shifted(self) -> bool:
        """Whether there may be something to adapt to: a test tells the domains apart, or cannot (`made_alike`)."""
        return differ(*self.tests) or self.made_alike

    @property
    def made_alike(self) -> bool:
        """Whether the domains' means agree more closely than those of two samples of one distribution.

        So they do where each domain was centred by itself: what one half of the examples has more of in the source, the
        other half has less of, a classifier of the domains is wrong more often than right, and no test of the means has
        anything to say of the rest.
        """
        return self.tests[0].high < 0.5

    @cached_property
    def ratio(self) -> Weights:
        """The density ratio that a classifier of the domains estimates, before anything flattens it."""
        return importance.method("classifier")(self.source, self.target)

    def diagnosis(self, weights: Weights | None, *, plain: Any = None) -> dict[str, Any]:
        """Return whether there is a shift and of which kind, and what the weights are worth, as plain values.

        Parameters
        ----------
        weights : Weights or None
            Of the source; None: the classifier's.
        plain : head, optional
            A classifier that was fitted without adaptation: what it predicts tells a shift of the classes' shares.
        """
        found = diagnose(
            weights or self.ratio,
            self.source,
            self.target,
            random_state=self.random_state,
            tests=self.tests,
            labels=None if plain is None else self.targets,
            source_probabilities=None if plain is None else held_out_probabilities(plain, len(self.targets)),
            target_probabilities=None if plain is None else plain.predict_proba(self.target),
        )
        return found.to_dict()

    def target_labels(self) -> np.ndarray | None:
        """Return the target's labels (n_t,), None where they are missing; None if all are."""
        if not len(self.known):
            return None
        labels = np.full(self.target.shape[0], None, dtype=object)
        labels[self.known] = self.known_targets
        return labels

    @property
    def even(self) -> bool:
        """Whether all source examples, and all classes, count the same."""
        return self.class_weight is None and bool(np.ptp(self.weight) == 0)

    def weighted(self, weight: np.ndarray) -> Self:
        """Return the problem with the source's weights times `weight` (n_s,), which has mean one."""
        return replace(self, weight=self.weight * np.maximum(weight, _LEAST))

    def fit_head(self, source: Any, target: Any) -> Any:
        """Return a head fitted on the source and on what is labelled of the target; see `known_share`.

        Parameters
        ----------
        source : array (n_s, k)
            Where the head is to be fitted.
        target : array (n_t, k)
            Likewise.
        """
        features, targets, weight, groups = source, self.targets, self.weight, self.groups
        if len(self.known):
            share = known_share(len(weight), len(self.known)) * weight.mean()
            own = target[self.known]
            features = stacked(features, own)
            targets = np.concatenate([targets, self.known_targets])
            weight = np.concatenate([weight, np.full(len(self.known), share)])
            if groups is not None:
                # Every labelled target example is a group of its own.
                codes = np.unique(groups, return_inverse=True)[1]
                groups = np.concatenate([codes, codes.max() + 1 + np.arange(len(self.known))])
        kept = self.kept if source is self.source else KeptHeads()
        return kept.fit(self.new_head(), features, targets, sample_weight=weight, groups=groups)


def problem_of(
    found: Labelled,
    there: Embedding,
    goal: Domain,
    new_head: Callable[[], Any],
    *,
    class_weight: Any,
    random_state: int,
) -> Problem:
    """Return what is to be adapted.

    Parameters
    ----------
    found : Labelled
        The source, with features.
    there : Embedding
        The target's features.
    goal : Domain
        The target; what it has of labels.
    new_head : callable
        Returns an unfitted head.
    class_weight : "balanced", dict or None
        What the head counts each class.
    random_state : int
        Decides whatever a method draws.

    Raises
    ------
    DataError
        If the features of both are not equally long, or a label of the target cannot be used.
    """
    source, target = found.features, there.features
    if sparse.issparse(target) != sparse.issparse(source):
        target = sparse.csr_matrix(target) if sparse.issparse(source) else target.toarray()
    if target.shape[0] < 2:
        raise DataError(
            "target",
            expected="2 or more examples that can be read",
            found=str(target.shape[0]),
            remedy="A distribution cannot be told from less; pass more of them.",
        )
    if source.shape[1] != target.shape[1]:
        raise DataError(
            "target",
            expected=f"{source.shape[1]} values in each vector, as in the source",
            found=str(target.shape[1]),
            remedy="Pass the same columns for both domains.",
        )
    known, labels = np.array([], np.intp), found.targets[:0]
    if goal.labels is not None:
        given_labels = task_labels(found.task, goal.labels, columns=goal.tasks)[there.rows]
        known = np.flatnonzero(labelled_rows(given_labels))
        if found.task.kind == "classification":  # of which the source may have lost some with its unreadable examples
            check_classes(found.task.classes, given_labels[known], subject="labels of the target")
        labels = targets_of(found.task, given_labels[known])
        if labels.size != len(known) * int(np.prod(found.targets.shape[1:])):
            raise DataError(
                "labels of the target",
                expected=f"{int(np.prod(found.targets.shape[1:]))} for each example, as in the source",
                found=f"an array of shape {labels.shape}",
                remedy="Pass the same columns of labels for both domains.",
            )
        labels = labels.reshape(len(known), *found.targets.shape[1:])
    return Problem(
        task=found.task,
        source=source,
        targets=found.targets,
        weight=np.ones(len(found.rows)) if found.sample_weight is None else found.sample_weight.astype(np.float64),
        groups=found.groups,
        target=target,
        known=known,
        known_targets=labels.astype(found.targets.dtype) if len(known) else labels,
        new_head=new_head,
        class_weight=class_weight,
        random_state=random_state,
        kept=found.kept,
    )


def known_share(source: int, known: int) -> float:
    r"""Return how many source examples a labelled target example counts as: :math:`\sqrt{n_s / m}`, at most 20.

    More the rarer they are, without leaving the model to a handful. (Ben-David et al., 2010, section 5, show that the
    best weights lie between minimising the error on the target's few examples alone and on all examples alike.)

    Parameters
    ----------
    source : int
        n_s, the source's examples.
    known : int
        m, the labelled ones of the target.
    """
    return float(min(np.sqrt(source / known), _MOST))


def weighted_domains(problem: Problem, domains: np.ndarray) -> tuple[Problem, dict[str, float]]:
    """Return the problem with the weights of its source domains (n_s,), each by its mean density ratio, and these."""
    if missing(domains).any():
        raise DataError(
            "domains",
            expected="the source domain of each example",
            found=f"{int(missing(domains).sum())} without one",
            remedy="Name the domain of every example, or leave those examples out.",
        )
    ratio = problem.ratio.sample_weight
    names, codes = np.unique(domains, return_inverse=True)
    means = np.bincount(codes, ratio) / np.bincount(codes)
    weight = means[codes]
    weight = weight / weight.mean()
    shares = dict(zip(names.astype(str).tolist(), (means / means.sum()).tolist(), strict=True))
    return problem.weighted(weight), shares


def stacked(upper: Any, lower: Any) -> Any:
    """Return two tables, both sparse or both dense, one below the other."""
    if sparse.issparse(upper):
        return sparse.csr_matrix(sparse.vstack([upper, lower]))
    return np.concatenate([upper, lower])


def held_out_probabilities(head: Any, rows: int) -> np.ndarray:
    """Return the probabilities (n_s, K) of source examples by heads that had not seen them; NaN where none did."""
    scores = getattr(head, "out_of_fold_", None)
    if scores is None:
        return np.full((rows, len(head.classes_)), np.nan)
    return softmax(scores[:rows] / head.temperature_, axis=1)
