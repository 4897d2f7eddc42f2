"""Domain adaptation: on features, the methods and the tournament among them; and through the network."""

from graft.techniques.adaptation.adapted_head import AdaptedHead
from graft.techniques.adaptation.methods import FEATURE_METHODS, Adapted, Method, feature_method
from graft.techniques.adaptation.problem import Problem
from graft.techniques.adaptation.through_network import NETWORK_METHODS

__all__ = ["FEATURE_METHODS", "NETWORK_METHODS", "Adapted", "AdaptedHead", "Method", "Problem", "feature_method"]
