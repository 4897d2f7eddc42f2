"""Every alignment on arrays keeps scikit-learn's contract. No check is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from graft.alignment import (
    CORAL,
    CentroidRefinement,
    DomainStandardization,
    GeodesicFlowKernel,
    JointDistributionAdaptation,
    ManifoldRegularization,
    SubspaceAlignment,
    TransferComponentAnalysis,
)

ALL = [
    CORAL(),
    CentroidRefinement(),
    ManifoldRegularization(),
    DomainStandardization(),
    DomainStandardization(unit_length=False),
    SubspaceAlignment(),
    GeodesicFlowKernel(),
    TransferComponentAnalysis(),
    TransferComponentAnalysis(kernel="rbf"),
    JointDistributionAdaptation(),
    JointDistributionAdaptation(kernel="linear", balance=None),
]


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ALL)
def test_scikit_learn_contract(estimator, check):
    check(estimator)
