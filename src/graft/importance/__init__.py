"""Source reweighting: how much each labelled example of the source counts for the target.

Every method of ``DENSITY_RATIOS`` is called ``method(source, target, *, …)`` on features, every method of
``LABEL_SHIFTS`` ``method(source_labels, source_probabilities, target_probabilities, *, …)``; all return `Weights`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from graft._checks import one_of

# p_target(x) / p_source(x), from features.
DENSITY_RATIOS = {
    "classifier": "graft.importance.domain_odds:domain_classifier",
    "kliep": "graft.importance.density_ratio:kliep",
    "ulsif": "graft.importance.density_ratio:ulsif",
    "rulsif": "graft.importance.density_ratio:rulsif",
    "kmm": "graft.importance.kernel_matching:kmm",
    "nearest-neighbors": "graft.importance.neighbor_ratio:neighbor_counts",
}
# p_target(y) / p_source(y), from a classifier's probabilities.
LABEL_SHIFTS = {
    "bbse": "graft.importance.label_shift:bbse",
    "rlls": "graft.importance.label_shift:rlls",
    "maximum-likelihood": "graft.importance.label_shift:maximum_likelihood",
}

_NAMES = {path.split(":")[1]: path for path in (DENSITY_RATIOS | LABEL_SHIFTS).values()} | {
    "Diagnosis": "graft.importance.diagnosis:Diagnosis",
    "Flattening": "graft.importance.exponent:Flattening",
    "Ratio": "graft.importance.weights:Ratio",
    "TrAdaBoostClassifier": "graft.importance.tradaboost:TrAdaBoostClassifier",
    "TrAdaBoostRegressor": "graft.importance.tradaboost_regression:TrAdaBoostRegressor",
    "Weights": "graft.importance.weights:Weights",
    "calibrated": "graft.importance.label_shift:calibrated",
    "diagnose": "graft.importance.diagnosis:diagnose",
    "domain_auc": "graft.importance.two_sample:domain_auc",
    "flattening": "graft.importance.exponent:flattening",
    "mmd_test": "graft.importance.two_sample:mmd_test",
}

__all__ = [
    "DENSITY_RATIOS",
    "LABEL_SHIFTS",
    "Diagnosis",
    "Flattening",
    "Ratio",
    "TrAdaBoostClassifier",
    "TrAdaBoostRegressor",
    "Weights",
    "bbse",
    "calibrated",
    "diagnose",
    "domain_auc",
    "domain_classifier",
    "flattening",
    "kliep",
    "kmm",
    "maximum_likelihood",
    "method",
    "mmd_test",
    "neighbor_counts",
    "rlls",
    "rulsif",
    "ulsif",
]


def method(name: str) -> Callable[..., Any]:
    """Return the function of the method called `name`, a key of `DENSITY_RATIOS` or `LABEL_SHIFTS`.

    Raises
    ------
    RequestError
        If there is no such method; with the nearest name.

    Examples
    --------
    >>> from graft.importance import method
    >>> method("kliep").__name__
    'kliep'
    >>> method("klip")
    Traceback (most recent call last):
        ...
    graft.errors.RequestError: method: expected one of 'classifier', 'kliep', 'ulsif', 'rulsif', 'kmm', \
'nearest-neighbors', 'bbse', 'rlls', 'maximum-likelihood', found 'klip'. Did you mean 'kliep'?
    """
    methods = DENSITY_RATIOS | LABEL_SHIFTS
    return _load(methods[one_of("method", name, methods)])


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return _load(_NAMES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
