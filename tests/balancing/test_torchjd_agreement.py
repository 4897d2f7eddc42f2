"""The aggregators beside those of torchjd, where it is installed."""

import pytest
import torch

from graft.balancing import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    GradVac,
    MeanGradient,
    NashMTL,
    PCGrad,
    SumGradient,
    UPGrad,
)

peer = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")

# Ours, theirs for so many tasks, and how near: theirs adds 1e-4 to the diagonal of dual cones, stops MGDA after so many
# steps, and the bargain of Nash after twenty convex problems; CAGrad's is solved by a general solver.
PAIRS = {
    "sum": (SumGradient(), lambda tasks: peer.Sum(), 1e-9),
    "mean": (MeanGradient(), lambda tasks: peer.Mean(), 1e-9),
    "mgda": (MGDA(), lambda tasks: peer.MGDA(epsilon=1e-12, max_iters=20000), 2e-2),
    "upgrad": (UPGrad(), lambda tasks: peer.UPGrad(), 5e-3),
    "dualproj": (DualProj(), lambda tasks: peer.DualProj(), 5e-3),
    "imtl-g": (IMTLG(), lambda tasks: peer.IMTLG(), 1e-7),
    "config": (ConFIG(), lambda tasks: peer.ConFIG(), 1e-7),
    "aligned-mtl": (AlignedMTL(), lambda tasks: peer.AlignedMTL(), 1e-7),
    "cagrad": (CAGrad(radius=0.5), lambda tasks: peer.CAGrad(c=0.5), 1e-4),
    "nash-mtl": (NashMTL(), lambda tasks: peer.NashMTL(n_tasks=tasks), 2e-3),
    "fairgrad": (FairGrad(alpha=1.0), lambda tasks: peer.FairGrad(alpha=1.0), 1e-5),
    "fairgrad, α = 2": (FairGrad(alpha=2.0), lambda tasks: peer.FairGrad(alpha=2.0), 1e-5),
}
GOLDEN = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_both_agree(name, seed):
    ours, theirs, tolerance = PAIRS[name]
    draws = torch.Generator().manual_seed(seed or 0)
    matrix = GOLDEN if seed is None else torch.randn(2 + seed, 8, generator=draws, dtype=torch.float64)
    try:
        expected = theirs(len(matrix))(matrix)
    except ImportError as error:
        pytest.skip(f"torchjd lacks a solver: {error}")
    assert (ours(matrix) - expected).norm() <= tolerance * matrix.norm()


def test_projections_of_two_gradients_agree():
    expected = peer.PCGrad()(GOLDEN)
    torch.testing.assert_close(PCGrad()(GOLDEN, generator=torch.Generator()), expected)


def test_the_first_step_of_gradvac_with_two_gradients_agrees():
    found = GradVac()(GOLDEN, generator=torch.Generator(), state=GradVac().initial_state(2))
    torch.testing.assert_close(found, peer.GradVac()(GOLDEN))
