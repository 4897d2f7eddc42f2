"""Files of hub repositories: the cache first, then the hub, never a minute of retries."""

from __future__ import annotations

import os
from pathlib import Path

from graft.errors import BackboneError

# Seconds that one question to the hub may take. huggingface_hub itself asks six times, with growing pauses.
_PATIENCE = 5.0


def offline() -> bool:
    """Whether the user has told the Hugging Face libraries to stay off the network."""
    on = {"1", "ON", "YES", "TRUE"}
    return any(os.environ.get(name, "").upper() in on for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def cached_file(repository: str, filename: str, revision: str | None = None) -> Path | None:
    """Return where the hub cache holds a file of a repository, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, filename, revision=revision)
    return Path(found) if isinstance(found, str) else None


def commit_of(path: Path) -> str:
    """Return the commit of a file in the hub cache (``…/snapshots/<commit>/file``), or an empty string."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else ""


def obtain(repository: str, patterns: tuple[str, ...], *, revision: str | None = None, asked: str) -> Path:
    """Return the local folder of a repository's files, from the cache or downloaded.

    Parameters
    ----------
    repository : str
        Its id on the hub, such as ``"timm/resnet18.a1_in1k"``.
    patterns : tuple of str
        The files that are needed.
    revision : str, optional
        A commit, tag or branch; by default the main branch.
    asked : str
        What the user wrote, for the message.

    Raises
    ------
    BackboneError
        If it is neither in the cache nor to be had from the hub.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    # timm caches the weights alone; what else a text encoder needs came with them.
    for name in ("model.safetensors", "pytorch_model.bin"):
        held = cached_file(repository, name, revision)
        if held is not None:
            return held.parent
    if offline():
        raise _unobtainable(asked, repository, "nothing in the hub cache, and HF_HUB_OFFLINE forbids asking the hub")
    try:
        HfApi().model_info(repository, revision=revision, timeout=_PATIENCE)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise BackboneError(
            f"backbone {asked!r}",
            expected="a network that may be downloaded",
            found=f"{repository} asks for its terms to be accepted first",
            remedy=f"Accept them at https://huggingface.co/{repository}, then run `hf auth login`.",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise _unobtainable(asked, repository, "no such repository on the hub (or a private one)") from error
    except HfHubHTTPError as error:
        raise _unobtainable(asked, repository, f"the hub's answer {error.response.status_code}") from error
    except Exception as error:
        # Whatever the transport raises (it has changed its library twice) means the same: the hub is out of reach.
        reason = f"nothing in the hub cache, and the hub out of reach ({type(error).__name__})"
        raise _unobtainable(asked, repository, reason) from error


def _unobtainable(asked: str, repository: str, found: str) -> BackboneError:
    return BackboneError(
        f"backbone {asked!r}",
        expected=f"the weights of {repository} in the hub cache or on the hub",
        found=found,
        remedy=f"Run `hf download {repository}` where there is a network and set HF_HUB_CACHE to that cache, pass the "
        "path of a local folder or weights file, or use 'efficientnet_lite0' or 'minilm', which need no hub.",
    )
