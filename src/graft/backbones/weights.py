"""Weights on disk and in memory: reading them safely, and their fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.errors import BackboneError

if TYPE_CHECKING:
    import torch

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Where training scripts put the tensors inside a checkpoint, the averaged copy first.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_hash(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over the names, shapes, data types and bytes of tensors, in the order of their names.

    The same weights give the same hash whatever file they came from, on whatever device they lie.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a ``.safetensors`` or ``.pth`` file, never running code from it.

    Raises
    ------
    BackboneError
        If the file is not one of weights, is damaged, or holds more than tensors.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BackboneError(
            str(path), expected="a file of weights", found="no such file", remedy="Check the path."
        ) from None
    except Exception as error:
        # The readers raise many kinds here (pickle, zip, header, struct); each means that the file cannot be used.
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            str(path),
            expected="a .safetensors file, or a .pth file that holds tensors only",
            found=f"something else ({first[:160]})",
            remedy="Save the weights as .safetensors; files that need to run code to be read are refused.",
        ) from error
    for key in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise BackboneError(
            str(path),
            expected="a mapping from names to tensors",
            found=type(state).__name__,
            remedy="Save module.state_dict() alone.",
        )
    return {_bare(name): tensor for name, tensor in state.items()}


def load_into(module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Copy tensors into a module; every name and shape has to fit.

    Raises
    ------
    BackboneError
        If a tensor is missing, unknown or of another shape.
    """
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    unknown = sorted(set(state) - set(own))
    shapes = sorted(name for name in set(own) & set(state) if own[name].shape != state[name].shape)
    for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes)):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise BackboneError(
                source,
                expected=f"the {len(own)} tensors of the network",
                found=f"{len(names)} {what}: {shown}",
                remedy="Name the architecture that these weights belong to.",
            )
    module.load_state_dict(dict(state))


def _bare(name: str) -> str:
    """Return a tensor's name without the prefixes that wrappers for training and compiling put before it."""
    for prefix in ("module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name
