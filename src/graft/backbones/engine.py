"""What computes the features of a network here: the precision, and the fastest module that agrees."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from torch import nn

from graft import _runtime
from graft.backbones.backbone import Backbone, Unreadable
from graft.backbones.inference import agreement, fast_module
from graft.backbones.space import content_key, space_of
from graft.backbones.store import FeatureStore

PRECISIONS = ("auto", "float32", "bfloat16")
# Inputs on which precisions are compared; that are tried to find as many that can be read; among which these are found.
_FEW, _TRIED, _AMONG = 8, 32, 64
# Comparisons that a network remembers where no store does.
_REMEMBERED = 4096
_building = threading.Lock()


class Engine:
    """The precision of an embedding, and the module that computes it. Final.

    The module is made when it is first needed, so that an embedding whose features are all stored makes none; it is
    kept with the backbone.

    Whether bfloat16 will do depends on the pictures: of photos the smallest cosine between its features and those in
    float32 is .9994, of drawn leaves on white paper .98, because errors of rounding are the same all over a plain
    ground and do not average out. So it is asked of a few of the inputs themselves, and not of what came before. What
    the store holds of them in one precision is an answer: nothing is computed twice.

    Parameters
    ----------
    backbone : Backbone
        The network.
    sources : sequence
        The user's inputs. Of at most 64 of them, evenly spread, the eight whose content has the smallest hashes are
        compared: the same ones in any order, and many of the same in a part of the data.
    precision : str
        One of `PRECISIONS`. ``"auto"``: bfloat16 where the device multiplies in it and the features of all compared
        inputs agree with those in float32 (cosine of 0.999 or more), else float32.
    store : FeatureStore or None
        What is held in it was compared when it was computed.
    """

    def __init__(self, backbone: Backbone, sources: Sequence[Any], precision: str, store: FeatureStore | None) -> None:
        self._backbone, self._sources = backbone, sources
        # The hashes of inputs, by row, that are known from the comparison.
        self.keys: dict[int, bytes | None] = {}
        self.precision = self._chosen(store) if precision == "auto" else precision

    @property
    def module(self) -> nn.Module:
        """The fastest module that computes in `precision`."""
        return self._made(self.precision, None)

    def _chosen(self, store: FeatureStore | None) -> str:
        backbone = self._backbone
        if not _runtime.bfloat16_is_fast(backbone.device):
            return "float32"
        compared = self._compared()
        known = dict(backbone.agreements)
        for precision in ("float32", "bfloat16"):  # what is held in both agrees
            if store is not None and compared:
                keys = [key for key, _ in compared]
                held, _ = store.read(space_of(backbone, precision), keys)
                known |= {key: precision == "bfloat16" for key, one in zip(keys, held, strict=True) if one}
        agreeing, fresh = 0, {}
        for key, source in compared:
            if key not in known:
                item = backbone.read([source])[0]
                if isinstance(item, Unreadable):
                    continue
                fresh[key] = item
            elif not known[key]:
                return "float32"
            agreeing += 1
            if agreeing == _FEW:
                break
        if fresh:
            batch = backbone.collate(list(fresh.values()))
            found = agreement(backbone, self._made("bfloat16", batch), batch)
            backbone.agreements |= dict(zip(fresh, found, strict=True))
            for oldest in list(backbone.agreements)[:-_REMEMBERED]:
                del backbone.agreements[oldest]
            if not all(found):
                return "float32"
        return "bfloat16" if agreeing else "float32"

    def _compared(self) -> list[tuple[bytes, Any]]:
        """Return inputs with the hashes of their content, in the order of these: the first that can be read count."""
        total = len(self._sources)
        rows = range(total) if total <= _AMONG else [place * total // _AMONG for place in range(_AMONG)]
        self.keys = {row: content_key(self._sources[row], self._backbone.modality) for row in rows}
        found = {key: row for row, key in self.keys.items() if key is not None}
        return [(key, self._sources[found[key]]) for key in sorted(found)[:_TRIED]]

    def _made(self, precision: str, batch: Any) -> nn.Module:
        with _building:
            made = self._backbone.faster
            if precision in made:
                return made[precision]
            module, agrees = fast_module(self._backbone, precision, self._example() if batch is None else batch)
            if agrees or batch is None:
                # What fails on these inputs may be a slower copy than other inputs need.
                made[precision] = module
            return module

    def _example(self) -> Any:
        items: list[Any] = []
        for source in self._sources[:_TRIED]:
            item = self._backbone.read([source])[0]
            if not isinstance(item, Unreadable):
                items.append(item)
            if len(items) == _FEW:
                break
        return self._backbone.collate(items or [self._backbone.example_item()])
