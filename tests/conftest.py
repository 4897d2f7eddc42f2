"""Fixtures that several test files share."""

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

# Small products that are divided among threads wait for busy cores, up to a hundred times as long as they take. Read by
# OpenBLAS when numpy is first imported, in the processes that tests start as well.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each of the workers has a core; those of torch would wait for one another likewise.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_feature_store(tmp_path_factory):
    """Keep the features that tests compute out of the user's feature store, and shared within one session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="session")
def tournaments_in_time():
    """Let every look at the clock of a tournament of adaptations find a millisecond more, however fast the machine is.

    So its budget of 60 seconds is never spent, and one of no time is at once.
    """
    from graft.techniques.adaptation import tournament

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tournament, "time", SimpleNamespace(monotonic=itertools.count(step=0.001).__next__))
        yield


@pytest.fixture(scope="session")
def real_data():
    """The path of a real data set, or a skip with the reason."""

    def folder(name):
        path = REAL_DATA / name
        if not path.exists():
            pytest.skip(f"the real data set {name} is not at ../shared/data beside the project")
        return path

    return folder
