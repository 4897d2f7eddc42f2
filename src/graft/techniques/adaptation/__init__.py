"""Domain adaptation on features: what is to be adapted, the methods, and the tournament among them."""

from graft.techniques.adaptation.adapted_head import AdaptedHead
from graft.techniques.adaptation.methods import FEATURE_METHODS, Adapted, Method, feature_method
from graft.techniques.adaptation.problem import Problem

__all__ = ["FEATURE_METHODS", "Adapted", "AdaptedHead", "Method", "Problem", "feature_method"]
