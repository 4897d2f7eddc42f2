"""Training: a network of a backbone and named heads, the optimizer's plan, the one loop, checkpoints, averages."""

from graft.training.activation_store import ActivationStore
from graft.training.averaging import Snapshot, greedy_soup, mix, put, take
from graft.training.batches import Batch, ClassOrder, Order, prefetch
from graft.training.boundary import Boundary
from graft.training.checkpoint import Checkpoints
from graft.training.convolutions import fast_convolutions
from graft.training.examples import Examples, InBatches, forward_all
from graft.training.loop import Plan, Trained, train
from graft.training.memory import freed_memory_kept
from graft.training.mixing import mix_examples
from graft.training.network import (
    Network,
    linear_head,
    normalisation_and_bias,
    recompute_activations,
    set_trained,
)
from graft.training.optimizer import Recipe
from graft.training.parts import PARTS, depth_of, trained_parts
from graft.training.processes import Processes
from graft.training.rate_finder import RateSearch, find_learning_rate
from graft.training.state import Progress
from graft.training.supervision import Numbers, Supervision, supervision

__all__ = [
    "PARTS",
    "ActivationStore",
    "Batch",
    "Boundary",
    "Checkpoints",
    "ClassOrder",
    "Examples",
    "InBatches",
    "Network",
    "Numbers",
    "Order",
    "Plan",
    "Processes",
    "Progress",
    "RateSearch",
    "Recipe",
    "Snapshot",
    "Supervision",
    "Trained",
    "depth_of",
    "fast_convolutions",
    "find_learning_rate",
    "forward_all",
    "freed_memory_kept",
    "greedy_soup",
    "linear_head",
    "mix",
    "mix_examples",
    "normalisation_and_bias",
    "prefetch",
    "put",
    "recompute_activations",
    "set_trained",
    "supervision",
    "take",
    "train",
    "trained_parts",
]
