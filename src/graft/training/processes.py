"""Several processes that train together, one for each device; started by ``torchrun``."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch


class Processes:
    """The processes of this training: one, or as many as ``torchrun`` started. Final.

    Gradients are summed explicitly after the backward pass, not by hooks within it: a loss is free to call the network
    as often and in as many parts as it needs.

    Parameters
    ----------
    device : torch.device
        Where this process computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._together = int(os.environ.get("WORLD_SIZE", "1")) > 1
        self.rank, self.count = 0, 1
        if self._together:
            from accelerate import PartialState

            begun = torch.distributed.is_initialized()
            state = PartialState(cpu=device.type == "cpu")
            if not begun:
                # Left to the interpreter's end, the group's threads now and then abort the process that has succeeded.
                atexit.register(_leave)
            self.rank, self.count = state.process_index, state.num_processes

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace every tensor by its sum over all processes."""
        if not self._together:
            return
        by_type: dict[torch.dtype, list[torch.Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for members in by_type.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in members])
            torch.distributed.all_reduce(flat)
            for tensor, summed in zip(members, flat.split([tensor.numel() for tensor in members]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace every tensor of real numbers by its mean over all processes; counters are the same in all."""
        if self._together:
            real = [tensor for tensor in tensors if tensor.is_floating_point()]
            self.sum(real)
            for tensor in real:
                tensor.div_(self.count)

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every process the main one's values."""
        if self._together:
            for tensor in tensors:
                values = tensor.detach().contiguous()
                torch.distributed.broadcast(values, src=0)
                tensor.copy_(values)

    def gradients(self, parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Return the gradients of the parameters that have one in any process, the same ones in every process.

        A share of a batch may leave out a head that another share needs: its gradient here is zero.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self._together:
            used = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=self._device)
            self.sum([used])
            for parameter, anywhere in zip(trained, used.tolist(), strict=True):
                if anywhere and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in trained if parameter.grad is not None]

    def agree(self, wish: bool) -> bool:
        """Return whether the main process wishes it: all then do the same."""
        if not self._together:
            return wish
        flag = torch.tensor([float(wish and self.main)], device=self._device)
        self.sum([flag])
        return bool(flag)

    def told(self, value: Any) -> Any:
        """Return the main process's value, one of JSON, in every process: what it decides, all go by."""
        if not self._together:
            return value
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(self._device)
        length = torch.tensor([len(text)], device=self._device)
        torch.distributed.broadcast(length, src=0)
        if not self.main:
            text = torch.empty(int(length), dtype=torch.uint8, device=self._device)
        torch.distributed.broadcast(text, src=0)
        return json.loads(bytes(text.cpu().tolist()).decode())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._together:
            torch.distributed.barrier()


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
