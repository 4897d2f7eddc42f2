"""Every head keeps scikit-learn's contract. No check is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from graft.heads import HEADS, head_class

ALL = sorted({head_class(name, task) for task, names in HEADS.items() for name in names}, key=lambda cls: cls.__name__)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([cls() for cls in ALL])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
