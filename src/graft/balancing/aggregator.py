"""`Aggregator`: one direction for the shared parameters out of the gradients of several tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

import numpy as np
import torch

from graft.balancing.gramian import Inner, gramian_of, inner
from graft.errors import RequestError


class Aggregator(ABC):
    r"""A way to combine the gradients of K tasks with respect to what they share into one.

    An instance holds options alone. Its call takes the matrix J of the gradients, (K, dim), and returns the direction
    d, (dim,), along which parameters *descend*: :math:`\theta \leftarrow \theta - \eta d`. Methods that depend on J
    through its inner products alone, :math:`d = J^\top w(J J^\top)`, are a `WeightedAggregator`.

    *Presence.* A task that is absent from a batch drops out: the result is that of the call on the rows of the present
    tasks. What stands in the row of an absent task is not read. With no task present the direction is zero.

    *State.* A method that remembers something between steps (``stateful``) keeps it in the tensor that `initial_state`
    returns and every call changes in place; entries of absent tasks stay as they are. Register it as a buffer, and
    checkpoints hold it.

    *Laws.* For gradients J and positive numbers c, an aggregator may be

    - non-conflicting: :math:`J d \ge 0`, no task gets worse to first order;
    - permutation invariant: the order of the tasks does not matter;
    - linear under scaling: d(diag(c) J) is linear in c, so that tasks count by their scale;
    - homogeneous: d(s J) = s d(J);
    - strongly stationary: d = 0 only where :math:`J^\top w = 0` for weights that are all positive.

    What does not hold is the method's own, as its authors define it:

    ===========  ====================  ================  ====================  ==================  ===================
    name         non-conflicting       invariant         linear                homogeneous         strongly stationary
    ===========  ====================  ================  ====================  ==================  ===================
    sum          no (1)                yes               yes                   yes                 yes
    mean         no (1)                yes               yes                   yes                 yes
    mgda         yes                   yes               no (5)                yes                 no (8)
    pcgrad       two tasks (2)         on average (4)    yes, for one order    yes                 yes
    gradvac      no (2)                on average (4)    yes, for one order    yes                 yes
    graddrop     no (1)                yes               no (6)                yes                 yes
    cagrad       c >= 1 (3)            yes               no (5)                yes                 yes
    imtl-g       two tasks (2)         yes               no (5)                yes                 yes
    nash-mtl     yes                   yes               no (7)                degree 0            no (8)
    aligned-mtl  no (2)                yes               no (5)                yes                 yes
    fairgrad     yes                   yes               no (7)                (1 - α) / (1 + α)   no (8)
    sdmgrad      λ = 0 (3)             yes               no (5)                yes                 λ > 0 (8)
    upgrad       yes                   yes               yes                   yes                 yes
    dualproj     yes                   yes               no (5)                yes                 yes
    config       independent (2)       yes               yes                   yes                 yes
    ===========  ====================  ================  ====================  ==================  ===================

    1. It does not look at conflicts between whole gradients.
    2. It removes or fixes angles one after another, or to linearly independent gradients; with more tasks, or dependent
       gradients, there may be no direction with the wanted angles.
    3. It stays near the mean gradient, which may conflict; the condition says when it may leave it altogether.
    4. The order in which gradients are projected is drawn.
    5. How gradients are weighed or which of them are projected depends on their lengths.
    6. The probability of a sign depends on the lengths.
    7. It equalizes (products of) gains, so that the length of one task's gradient hardly counts.
    8. Where gradients of some tasks sum to zero with positive weights, nothing can be gained for these, and it gives
       the others nothing either: zero is in the hull of the gradients, or the bargain has no solution.

    A zero gradient never matters, except in MGDA, CAGrad and SDMGrad.

    Abstract; concrete classes are final.

    Attributes
    ----------
    stateful : bool
        Whether a call needs ``state``.
    random : bool
        Whether a call needs ``generator``.
    """

    stateful: ClassVar[bool] = False
    random: ClassVar[bool] = False

    @final
    def __call__(
        self,
        matrix: torch.Tensor,
        *,
        present: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        state: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the direction for a matrix of gradients.

        Parameters
        ----------
        matrix : tensor of shape (K, dim)
            J: a row for the gradient of each task.
        present : tensor of shape (K,), bool, optional
            Which tasks have a label in the batch; by default all.
        generator : torch.Generator, optional
            For methods that are random.
        state : tensor, optional
            For methods that are stateful; changed in place.

        Returns
        -------
        tensor of shape (dim,)
            d, of the matrix's type.

        Raises
        ------
        RequestError
            If shapes do not fit, a gradient of a present task is not finite, or something is missing that the method
            needs.
        """
        if matrix.ndim != 2 or not matrix.is_floating_point():
            raise RequestError(
                "matrix",
                expected="a matrix (K, dim) of floating-point numbers: a row for the gradient of each task",
                found=f"shape {tuple(matrix.shape)} of {matrix.dtype}",
                remedy="Flatten each task's gradient and stack them.",
            )
        places = self._places(len(matrix), present, generator, state)
        if len(places) == 0:
            return matrix.new_zeros(matrix.shape[1])
        rows = matrix.detach() if len(places) == len(matrix) else matrix.detach()[torch.from_numpy(places)]
        with torch.no_grad(), torch.autocast(matrix.device.type, enabled=False):
            local = _taken(state, places)
            direction = self._combined(rows, generator, local)
            _put_back(state, places, local)
        return direction.to(matrix.dtype)

    @final
    def initial_state(self, n_tasks: int) -> torch.Tensor:
        """Return the state before the first step: (K, K) of float64 for stateful methods, else (0,)."""
        size = (n_tasks, n_tasks) if self.stateful else (0,)
        return torch.zeros(size, dtype=torch.float64)

    @abstractmethod
    def _combined(
        self, rows: torch.Tensor, generator: torch.Generator | None, state: np.ndarray | None
    ) -> torch.Tensor:
        """Return d (dim,) of the present tasks' gradients (K', dim), K' ≥ 1; change the state (K', K') in place."""

    @final
    def _places(
        self,
        count: int,
        present: torch.Tensor | None,
        generator: torch.Generator | None,
        state: torch.Tensor | None,
    ) -> np.ndarray:
        """Return the places of the present tasks, and require what the method needs."""
        name = type(self).__name__
        if self.random and generator is None:
            raise RequestError(
                "generator",
                expected=f"a torch.Generator: {name} draws random numbers",
                found="None",
                remedy="Pass generator=torch.Generator().manual_seed(0), the same one at every step.",
            )
        if self.stateful and (state is None or state.shape != (count, count) or state.dtype != torch.float64):
            raise RequestError(
                "state",
                expected=f"a tensor ({count}, {count}) of float64: what {name} remembers between steps",
                found="None" if state is None else f"shape {tuple(state.shape)} of {state.dtype}",
                remedy="Pass state=aggregator.initial_state(n_tasks), the same tensor at every step.",
            )
        if present is None:
            return np.arange(count)
        if present.shape == (count,) and present.dtype == torch.bool:
            return np.flatnonzero(present.cpu().numpy())
        raise RequestError(
            "present",
            expected=f"a tensor of shape ({count},) of bool",
            found=f"shape {tuple(present.shape)} of {present.dtype}",
            remedy="Pass True for each task that has a label in the batch.",
        )


class WeightedAggregator(Aggregator):
    r"""An aggregator that depends on the gradients through their inner products alone: :math:`d = J^\top w(J J^\top)`.

    Abstract; concrete classes are final.
    """

    @final
    def weights(
        self,
        gramian: torch.Tensor,
        *,
        present: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        state: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the weights of the tasks.

        Parameters
        ----------
        gramian : tensor of shape (K, K)
            The inner products of the gradients.
        present, generator, state
            As in the call with gradients.

        Returns
        -------
        tensor of shape (K,)
            w, of the Gramian's type, but at least float32; 0 for absent tasks.

        Raises
        ------
        RequestError
            As in the call with gradients.
        """
        places = self._places(len(gramian), present, generator, state)
        dtype = torch.promote_types(gramian.dtype, torch.float32)
        weights = torch.zeros(len(gramian), dtype=torch.float64)
        if len(places):
            chosen = torch.from_numpy(places)
            local = _taken(state, places)
            block = gramian if len(places) == len(gramian) else gramian.detach().cpu()[chosen][:, chosen]
            weights[chosen] = torch.from_numpy(self._solved(inner(block), generator, local))
            _put_back(state, places, local)
        return weights.to(gramian.device, dtype)

    @final
    def _combined(
        self, rows: torch.Tensor, generator: torch.Generator | None, state: np.ndarray | None
    ) -> torch.Tensor:
        weights = torch.from_numpy(self._solved(inner(gramian_of(rows.unbind())), generator, state))
        dtype = torch.promote_types(rows.dtype, torch.float32)
        return weights.to(rows.device, dtype) @ rows.to(dtype)

    @abstractmethod
    def _solved(self, products: Inner, generator: torch.Generator | None, state: np.ndarray | None) -> np.ndarray:
        """Return w (K',) for the inner products of the present tasks' gradients."""


def _taken(state: torch.Tensor | None, places: np.ndarray) -> np.ndarray | None:
    return None if state is None or state.ndim != 2 else state.cpu().numpy()[np.ix_(places, places)]


def _put_back(state: torch.Tensor | None, places: np.ndarray, local: np.ndarray | None) -> None:
    if state is not None and local is not None:
        chosen = torch.from_numpy(places).to(state.device)
        state[chosen[:, None], chosen] = torch.from_numpy(local).to(state.device)
