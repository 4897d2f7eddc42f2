"""Text networks: any sentence encoder that transformers can load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from graft._checks import one_of
from graft.backbones.backbone import PLAIN, Backbone, BackboneFacts, Layer, Unreadable, Views, resolve_layers
from graft.backbones.pooling import TEXT_POOLINGS, pool_tokens
from graft.backbones.preprocessing import TextPreprocessing
from graft.errors import RequestError


class TextNetwork(nn.Module):
    """An encoder from tokens to features: the transformer up to the chosen layers, pooling, then its own tail.

    Parameters
    ----------
    encoder : Module
        Made by transformers' ``AutoModel``.
    taps : tuple of int or None
        Which hidden states are the features (0: the embeddings, k: block k); None: the encoder's own output.
    poolings : tuple of str
        The poolings, side by side.
    tail : Module
        What the encoder's authors put after the pooling (projection, normalisation); the identity for chosen layers.
    """

    def __init__(
        self, encoder: nn.Module, taps: tuple[int, ...] | None, poolings: tuple[str, ...], tail: nn.Module
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.taps = taps
        self.poolings = poolings
        self.tail = tail

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return features of shape (n, feature_dim) for token ids and their mask, both of shape (n, length)."""
        output = self.encoder(**batch, output_hidden_states=self.taps is not None, return_dict=True)
        states = [output.last_hidden_state] if self.taps is None else [output.hidden_states[tap] for tap in self.taps]
        mask = batch["attention_mask"]
        pooled = [pool_tokens(state, mask, pooling) for state in states for pooling in self.poolings]
        return self.tail(pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1))


class UnitLength(nn.Module):
    """Divide every vector by its Euclidean norm."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return vectors of length one, shape (n, d)."""
        return nn.functional.normalize(features, dim=1)


class TextBackbone(Backbone):
    """A sentence encoder; made by `load_backbone`. Final.

    Parameters
    ----------
    name : str
        The name that `load_backbone` resolved.
    encoder : Module
        Made by transformers' ``AutoModel``.
    tokenizer : PreTrainedTokenizer
        The encoder's own.
    preprocessing : TextPreprocessing
        Where texts are cut, and what is put before them.
    own_pooling : tuple of str
        The poolings that the encoder was trained with.
    tail : Module
        What its authors put after the pooling.
    license, revision : str
        Of the weights.
    layer, pooling
        As in `with_output`.
    """

    def __init__(
        self,
        name: str,
        encoder: nn.Module,
        tokenizer: Any,
        preprocessing: TextPreprocessing,
        *,
        own_pooling: tuple[str, ...] = ("mean",),
        tail: nn.Module | None = None,
        license: str = "",
        revision: str = "",
        layer: Layer = None,
        pooling: str | None = None,
    ) -> None:
        self._encoder, self._tokenizer, self._own_pooling = encoder, tokenizer, own_pooling
        self._plan = preprocessing
        self._tail = nn.Identity() if tail is None else tail
        config: Any = encoder.config
        layers = ("embeddings", *(f"layer.{index}" for index in range(config.num_hidden_layers)))
        facts = BackboneFacts(
            name,
            "text",
            preprocessing,
            license=license,
            revision=revision,
            layers=layers,
            layer=resolve_layers(layer, layers, name=name),
            pooling=None if pooling is None else one_of("pooling", pooling, TEXT_POOLINGS),
        )
        taps = None if facts.layer is None else tuple(layers.index(one) for one in facts.layer)
        poolings = own_pooling if pooling is None else (pooling,)
        # The tail was trained for the network's own output: it says nothing about another layer.
        last = self._tail if taps is None else nn.Identity()
        super().__init__(facts, TextNetwork(encoder, taps, poolings, last))
        self._module.requires_grad_(False)

    @property
    def layer_prefixes(self) -> tuple[tuple[str, str], ...]:
        blocks = block_path(self._encoder)
        pairs = [("embeddings", f"encoder.{child}") for child, _ in self._encoder.named_children() if "embed" in child]
        if blocks is not None:
            count = len(self.layers) - 1
            pairs += [(f"layer.{index}", f"encoder.{blocks}.{index}") for index in range(count)]
            # No pooling here reads the pooler of BERT: a group of its own would be a last group that does nothing.
            pairs.append((f"layer.{count - 1}", "encoder.pooler"))
        return (*pairs, ("output", "encoder"), ("output", "tail"))

    def with_output(self, *, layer: Layer = None, pooling: str | None = None) -> Self:
        made = self._around(self._encoder, self._tail, self.name, layer, pooling)
        made._weights_hash = self._weights_hash
        return made

    def with_module(self, module: nn.Module) -> Self:
        if not isinstance(module, TextNetwork):
            raise RequestError(
                "module",
                expected="a trained copy_module() of this backbone",
                found=type(module).__name__,
                remedy="Pass the copy itself, or use module_backbone for another network.",
            )
        tail = module.tail if self.layer is None else self._tail
        made = self._around(module.encoder, tail, self.name, self.layer, self.pooling)
        made.own_weights, made.adapters = True, None
        return made

    def _around(self, encoder: nn.Module, tail: nn.Module, name: str, layer: Layer, pooling: str | None) -> Self:
        made = type(self)(
            name,
            encoder,
            self._tokenizer,
            self._plan,
            own_pooling=self._own_pooling,
            tail=tail,
            license=self.license,
            revision=self.revision,
            layer=layer,
            pooling=pooling,
        )
        made.own_weights, made.adapters = self.own_weights, self.adapters
        return made

    def read(self, sources: Sequence[Any], *, views: Views = PLAIN) -> list[Any]:
        plan = self._plan
        texts = [plan.prompt + str(source) for source in sources]
        if plan.lower_case:
            texts = [text.lower() for text in texts]
        tokens = self._tokenizer(texts, truncation=True, max_length=plan.max_tokens)["input_ids"] if texts else []
        items: list[Any] = [
            ids if isinstance(source, str) else Unreadable(f"not a text but {type(source).__name__}")
            for source, ids in zip(sources, tokens, strict=True)
        ]
        return items if views.count == 1 else [(item,) * views.count for item in items]

    def collate(self, items: Sequence[Any]) -> dict[str, torch.Tensor]:
        length = max(1, *(len(ids) for ids in items))
        padding = self._tokenizer.pad_token_id
        ids = torch.full((len(items), length), 0 if padding is None else padding, dtype=torch.long)
        mask = torch.zeros((len(items), length), dtype=torch.long)
        for row, item in enumerate(items):
            ids[row, : len(item)] = torch.tensor(item, dtype=torch.long)
            mask[row, : len(item)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def item_size(self, item: Any) -> int:
        return len(item)

    def example_item(self) -> list[int]:
        return self._tokenizer(["a"], truncation=True, max_length=self._plan.max_tokens)["input_ids"][0]

    def tokenizer_json(self) -> str | None:
        """Return all that is done to a text as the JSON that the library ``tokenizers`` reads; None where it has none.

        ``tokenizers.Tokenizer.from_str(it).encode_batch(texts)`` puts the prompt before each text, lowers the case
        where that is part of the preprocessing, cuts long texts and pads short ones: its ``ids`` and
        ``attention_mask`` are what `collate` makes of what `read` returns. (The library puts no prompt before an empty
        text.)
        """
        fast = getattr(self._tokenizer, "backend_tokenizer", None)
        if fast is None:
            return None
        from tokenizers import Tokenizer, normalizers

        plan, whole = self._plan, Tokenizer.from_str(fast.to_str())
        before: list[Any] = [normalizers.Prepend(plan.prompt)] if plan.prompt else []
        before += [normalizers.Lowercase()] if plan.lower_case else []
        if before:
            own = [] if whole.normalizer is None else [whole.normalizer]
            whole.normalizer = normalizers.Sequence([*before, *own])
        whole.enable_truncation(max_length=plan.max_tokens)
        padding = self._tokenizer.pad_token_id
        whole.enable_padding(pad_id=0 if padding is None else padding, pad_token=self._tokenizer.pad_token or "[PAD]")
        return whole.to_str()


def block_path(encoder: nn.Module) -> str | None:
    """Return the path of the list that holds the encoder's blocks, such as ``encoder.layer``; None if there is none."""
    config: Any = encoder.config
    for path, child in encoder.named_modules():
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers:
            return path
    return None
