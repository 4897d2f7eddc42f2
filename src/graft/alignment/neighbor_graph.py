"""The graph that joins each example to its nearest ones, and its Laplacian."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors


def normalized_laplacian(directions: np.ndarray, neighbors: int) -> sparse.csr_matrix:
    r"""Return the symmetrically normalised Laplacian of the graph of nearest neighbours by angle.

    .. math::
        w_{ij} = \max(0, \cos(x_i, x_j)) \text{ if } i \in N_p(j) \text{ or } j \in N_p(i), \qquad w_{ii} = 1, \qquad
        L = I - D^{-1/2} W D^{-1/2}

    The loop at each example keeps one whose neighbours are all at a right angle from dividing by zero. L is symmetric,
    its eigenvalues lie from 0 to 2, and at most n (2p + 1) entries are stored.

    Parameters
    ----------
    directions : ndarray (n, d)
        Rows of length 1 (a row of zeros is joined to nothing).
    neighbors : int
        p; all others where there are fewer.

    Returns
    -------
    sparse matrix (n, n)

    References
    ----------
    Belkin, Niyogi and Sindhwani (2006), Manifold regularization, section 4; the cosine weights are those of Wang and
    others (2018), equation 11.
    """
    rows = len(directions)
    identity = sparse.identity(rows, format="csr")
    count = min(neighbors, rows - 1)
    if count == 0:
        return identity - identity
    # At equal lengths the nearest by angle are the nearest by distance. Without arguments an example is not its own
    # neighbour.
    graph = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(directions).kneighbors_graph().tocoo()
    cosines = np.einsum("ij,ij->i", directions[graph.row], directions[graph.col])
    weights = sparse.csr_matrix((np.maximum(cosines, 0), (graph.row, graph.col)), shape=(rows, rows))
    weights = weights.maximum(weights.T) + identity
    scale = sparse.diags(1 / np.sqrt(np.asarray(weights.sum(axis=1)).ravel()))
    return sparse.csr_matrix(identity - scale @ weights @ scale)
