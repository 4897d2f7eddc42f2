"""Fitted heads as modules on tensors: the same function of the features, in float32."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from graft import alignment
from graft.alignment.component_analysis import ComponentAnalysis
from graft.alignment.scored_classifier import ScoredClassifier
from graft.errors import RequestError
from graft.export import layers
from graft.heads import (
    AutoHead,
    AutoRegressor,
    ClassifierHead,
    KernelRidgeClassifier,
    KernelRidgeRegressor,
    LinearClassifier,
    LinearMultiLabel,
    LinearRegressor,
    LogisticPath,
    MultiLabelHead,
    MultiLabelLogistic,
    NearestNeighbors,
    Prototype,
    RegressorHead,
    RidgePath,
    ShrinkageDiscriminant,
)
from graft.heads.kernel_ridge import LOGIT
from graft.heads.prototype import SHARPNESS
from graft.importance import TrAdaBoostClassifier
from graft.techniques.adaptation import AdaptedHead


@singledispatch
def head_module(head: Any) -> nn.Module:
    """Return what maps features (n, d) to what a fitted head answers.

    Probabilities (n, K) or (n, labels), as ``predict_proba`` gives them; of a regression the numbers (n, outputs).

    Raises
    ------
    RequestError
        If the head is not one of Graft's.
    """
    raise _unknown(head)


@head_module.register(ClassifierHead)
@head_module.register(ScoredClassifier)
def _(head: Any) -> nn.Module:
    return nn.Sequential(score_module(head), layers.ScaleShift(1 / head.temperature_), nn.Softmax(dim=1))


@head_module.register
def _(head: MultiLabelHead) -> nn.Module:
    probability = nn.Sequential(score_module(head), layers.ScaleShift(1 / head.temperature_), nn.Sigmoid())
    return nn.Sequential(probability, layers.Complement()) if head.single_label_ else probability


@head_module.register
def _(head: RegressorHead) -> nn.Module:
    return nn.Sequential(score_module(head), layers.ScaleShift(head.target_scale_, head.target_location_))


@head_module.register
def _(head: AdaptedHead) -> nn.Module:
    steps: list[nn.Module] = [] if head.location is None else [layers.Standardize(head.location, head.scale)]
    if head.mapping is not None:
        steps.append(alignment_module(head.mapping))
    return nn.Sequential(*steps, head_module(head.head))


@head_module.register
def _(head: TrAdaBoostClassifier) -> nn.Module:
    classes, count = len(head.classes_), len(head.votes_)
    models = []
    for model in head.estimators_:
        if not isinstance(model, LogisticRegression):
            raise _unknown(model)
        models.append(Ballot(model, classes))
    # The shares of the votes, and one vote of the mean size that knows nothing.
    shares = layers.WeightedSum(models, head.votes_ / head.votes_.sum())
    return nn.Sequential(shares, layers.ScaleShift(count / (count + 1), 1 / classes / (count + 1)))


class Ballot(nn.Module):
    """Features (n, d) to 1 for the class that a logistic regression on class codes predicts (n, classes)."""

    indicators: torch.Tensor

    def __init__(self, model: LogisticRegression, classes: int) -> None:
        super().__init__()
        affine = layers.Affine(model.coef_, model.intercept_)
        self.logits = affine if len(model.classes_) > 2 else nn.Sequential(affine, layers.BothSigns())
        self.register_buffer("indicators", layers.constant(np.eye(classes)[model.classes_]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.indicators[self.logits(x).argmax(dim=1)]


@singledispatch
def score_module(head: Any) -> nn.Module:
    """Return what maps features (n, d) to a fitted head's logits, scores, or standardised numbers.

    Raises
    ------
    RequestError
        If the head is not one of Graft's.
    """
    raise _unknown(head)


@score_module.register
def _(head: AutoHead) -> nn.Module:
    members = list(head.heads_.values())
    if len(members) == 1:
        return score_module(members[0])
    parts = [
        nn.Sequential(score_module(one), layers.ScaleShift(1 / one.temperature_), nn.LogSoftmax(dim=1))
        for one in members
    ]
    return layers.WeightedSum(parts, head.weights_)


@score_module.register
def _(head: LogisticPath) -> nn.Module:
    affine = layers.Affine(head.coef_, head.intercept_, head.location_)
    return nn.Sequential(affine, layers.BothSigns()) if len(head.intercept_) == 1 else affine


@score_module.register(ShrinkageDiscriminant)
@score_module.register(MultiLabelLogistic)
def _(head: Any) -> nn.Module:
    return layers.Affine(head.coef_, head.intercept_, head.location_)


@score_module.register(LinearClassifier)
@score_module.register(LinearMultiLabel)
def _(head: Any) -> nn.Module:
    return layers.Affine(head.coefficients, head.intercept, head.location_)


@score_module.register
def _(head: LinearRegressor) -> nn.Module:
    location, scale = head.target_location_, head.target_scale_
    return layers.Affine(head.coefficients / scale[:, None], (head.intercept - location) / scale, head.location_)


@score_module.register
def _(head: RidgePath) -> nn.Module:
    return layers.Affine(head.slopes_.T, head.offset_, head.location_)


@score_module.register
def _(head: AutoRegressor) -> nn.Module:
    return score_module(head.head_)


@score_module.register
def _(head: KernelRidgeClassifier) -> nn.Module:
    return nn.Sequential(_kernel_ridge(head), layers.ScaleShift(LOGIT))


@score_module.register
def _(head: KernelRidgeRegressor) -> nn.Module:
    return _kernel_ridge(head)


def _kernel_ridge(head: Any) -> nn.Module:
    kernel = layers.GaussianKernel(head.centers_, head.gamma_, head.dual_coef_, head.intercept_)
    return nn.Sequential(_scaled(head), kernel)


@score_module.register
def _(head: Prototype) -> nn.Module:
    return nn.Sequential(_scaled(head), layers.UnitRows(), layers.Affine(SHARPNESS * head.prototypes_, head.log_share_))


@score_module.register
def _(head: NearestNeighbors) -> nn.Module:
    votes = layers.Votes(head.examples_, head.weight_, head.codes_, head.class_share_, head.n_neighbors_)
    return nn.Sequential(_scaled(head), votes)


@score_module.register
def _(head: alignment.ManifoldRegularization) -> nn.Module:
    placed = [alignment_module(head.standardization_), layers.WithOne(), layers.UnitRows()]
    return nn.Sequential(*placed, layers.GaussianKernel(head.examples_, 0.5, head.dual_coef_, head.shares_))


@score_module.register
def _(head: alignment.MEDA) -> nn.Module:
    kernel = layers.GaussianKernel(head.examples_, 0.5, head.dual_coef_, np.zeros(head.dual_coef_.shape[1]))
    return nn.Sequential(alignment_module(head.flow_), layers.UnitRows(), kernel)


@score_module.register
def _(head: alignment.CentroidRefinement) -> nn.Module:
    cosine = layers.Affine(head.centroids_ / head.temperature, np.zeros(len(head.centroids_)))
    return nn.Sequential(alignment_module(head.standardization_), cosine)


@score_module.register
def _(head: alignment.InvariantHead) -> nn.Module:
    return nn.Sequential(
        alignment_module(head.standardization_),
        layers.Affine(head.bottleneck_.T, head.bottleneck_intercept_),
        nn.ReLU(),
        layers.Affine(head.coef_, head.intercept_),
    )


@singledispatch
def alignment_module(fitted: Any) -> nn.Module:
    """Return what maps target features (n, d) as ``transform`` of a fitted alignment does.

    Raises
    ------
    RequestError
        If the alignment is not one of Graft's.
    """
    raise _unknown(fitted)


@alignment_module.register(alignment.CORAL)
@alignment_module.register(alignment.LinearTransport)
@alignment_module.register(alignment.OptimalTransport)
def _(fitted: Any) -> nn.Module:
    return nn.Identity()  # these move the source


@alignment_module.register
def _(fitted: alignment.DomainStandardization) -> nn.Module:
    mean, scale = fitted.target_mean_, fitted.target_scale_
    place = np.float32(mean)
    # What float32 leaves of the mean is not small beside the scale where features lie far from zero.
    standardised = nn.Sequential(layers.Standardize(place, scale), layers.ScaleShift(1.0, (place - mean) / scale))
    return nn.Sequential(standardised, layers.UnitRows()) if fitted.unit_length else standardised


@alignment_module.register
def _(fitted: alignment.SubspaceAlignment) -> nn.Module:
    return _centred(fitted.target_mean_, fitted.target_map_)


@alignment_module.register
def _(fitted: alignment.GeodesicFlowKernel) -> nn.Module:
    return _centred(fitted.target_mean_, fitted.map_)


@alignment_module.register
def _(fitted: ComponentAnalysis) -> nn.Module:
    if fitted.anchors_ is None:
        return _centred(fitted.mean_, fitted.map_)
    assert fitted.gamma_ is not None
    return layers.GaussianKernel(fitted.anchors_, fitted.gamma_, fitted.map_, -fitted.mean_ @ fitted.map_)


def _centred(mean: np.ndarray, matrix: np.ndarray) -> nn.Module:
    """Return x to (x - mean) matrix."""
    return layers.Affine(matrix.T, -mean @ matrix, mean)


def _scaled(head: Any) -> nn.Module:
    return layers.Standardize(head.location_, head.scale_)


def _unknown(part: Any) -> RequestError:
    return RequestError(
        "model",
        expected="heads and alignments of Graft's own",
        found=type(part).__name__,
        remedy="Fit the model with one of them, or export the network and this part yourself.",
    )
