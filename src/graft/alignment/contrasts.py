"""Contrasts: vectors over the rows of both domains whose products with features are differences of means."""

from __future__ import annotations

import numpy as np


def discrepancy_contrasts(
    source_codes: np.ndarray, target_codes: np.ndarray, classes: int, balance: float
) -> np.ndarray:
    r"""Return E (n_s + n_t, q) with :math:`E E^T = M / \lVert M \rVert_F`, M the matrix of the discrepancy.

    .. math:: M = (1 - \mu) C e_0 e_0^T + \mu \sum_c e_c e_c^T

    with :math:`e_0^T F = \bar F_s - \bar F_t` and :math:`e_c^T F = \bar F_s^{(c)} - \bar F_t^{(c)}` for any F
    (n_s + n_t, r), and one column for the domains as wholes and for each class c that occurs in both.

    Parameters
    ----------
    source_codes, target_codes : ndarray (n_s,), (n_t,) of int
        Classes, 0 to C - 1; -1 where there is none.
    classes : int
        C.
    balance : float in [0, 1]
        μ.

    References
    ----------
    Long, Wang, Ding, Sun and Yu (2013), Transfer feature learning with joint distribution adaptation, equations 5 and
    8; Wang, Chen, Hao, Feng and Shen (2017), Balanced distribution adaptation for transfer learning, equation 4. The
    factor C and the norm are in their code alone.
    """
    rows = len(source_codes), len(target_codes)
    whole = np.concatenate([np.full(rows[0], 1 / rows[0]), np.full(rows[1], -1 / rows[1])])
    columns = [np.sqrt((1 - balance) * classes) * whole]
    for code in np.intersect1d(source_codes, target_codes):
        if code >= 0:
            here, there = source_codes == code, target_codes == code
            columns.append(np.sqrt(balance) * np.concatenate([here / here.sum(), -(there / there.sum())]))
    contrasts = np.stack(columns, axis=1)
    norm = np.linalg.norm(contrasts.T @ contrasts)
    return contrasts / np.sqrt(norm) if norm > 0 else contrasts
