"""The techniques: scikit-learn estimators that carry a pretrained network over to a new task."""

from graft.techniques.domain_adaptation import DomainAdaptation
from graft.techniques.feature_extraction import FeatureExtraction
from graft.techniques.fine_tuning import FineTuning
from graft.techniques.loading import TECHNIQUES, load
from graft.techniques.multi_task import MultiTask
from graft.techniques.technique import Predictions, Technique

__all__ = [
    "TECHNIQUES",
    "DomainAdaptation",
    "FeatureExtraction",
    "FineTuning",
    "MultiTask",
    "Predictions",
    "Technique",
    "load",
]
