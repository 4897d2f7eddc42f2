"""Fine-tuning: the layers of a pretrained network are retrained on the new task, gently."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from typing import Any, Self

import numpy as np

from graft._checks import number, one_of
from graft.backbones import Backbone, Views, load_backbone
from graft.data import Domain
from graft.errors import RequestError
from graft.techniques.choosing import PROBE, calibrated, choose, towards
from graft.techniques.holding_out import hold_out, joined, require_both
from graft.techniques.labelled import embedded, given, readable
from graft.techniques.material import Material, goal_of
from graft.techniques.mirroring import is_undecided, try_mirroring
from graft.techniques.network_training import NetworkTraining, leaving_photos, require_tensorboard
from graft.techniques.objectives import LEAST_STEPS, require_fit_for, require_objective, task_objective
from graft.techniques.phases import Phases, require_folder
from graft.techniques.regularizers import require_beside, require_usable
from graft.techniques.serving import serve
from graft.techniques.settings import ADAPTERS, Settings
from graft.techniques.technique import Technique

# Examples below which all of them are trained on again once the held-out ones have chosen.
_REFITTED = 5000


class FineTuning(Technique):
    r"""Retrain a pretrained network on the task, starting from the converged head of feature extraction.

    A part of the examples is held out. On the rest, a head is first fitted on the frozen features (the probe); then
    network and head are trained together with AdamW, a smaller learning rate for earlier layers, warm-up and cosine.
    What is returned is what the held-out examples speak for: the probe, the fine-tuned network (the average of its
    best checkpoints), or an average of its weights with the pretrained ones. ``training_`` says which, and by how much.

    Parameters
    ----------
    backbone : str, path or Backbone
        What `load_backbone` takes, also the folder of a saved run.
    pretrained : bool
        False: train the same architecture from random weights, with a recipe of its own (no layer decay, a higher
        rate, four times the steps): the baseline that transfer is measured against.
    objective : {"supervised", "contrastive"}
        ``"supervised"``: the loss of the task. ``"contrastive"``, for single-label classification: examples of one
        class are drawn together and others pushed apart, and the head is fitted on the tuned features afterwards.
    train : str or int
        ``"all"`` layers; a number k: the last k layer groups; ``"gradual"`` unfreezing from the last group on;
        ``"biases"``: biases and normalisations alone; ``"normalizations"``: these alone; ``"lora"`` or ``"dora"``:
        small matrices beside the layers.
    rank : int
        Of those matrices.
    keep_adapters : bool
        Save them alone beside the name of the pretrained network, instead of the network that they are merged into: a
        small run, which needs that network again where it is loaded. Predictions are the same.
    regularizer : {"l2-sp", "delta", "bi-tuning", "co-tuning"} or None
        What is added to the loss for small data; see `graft.regularization`.
    strength : float, optional
        How much it counts.
    task, label_names, layer, pooling
        As in `FeatureExtraction`.
    image_size : int or (int, int), optional
        The input size in pixels, instead of the network's own.
    epochs : float or "auto"
        How often every example is seen. ``"auto"``: 150 steps (60 contrastive ones) and three times.
    batch_size : int
        Examples in a step.
    parts : int
        Compute every batch in so many parts (gradient accumulation): less memory, the same step.
    learning_rate : float, "auto" or "find"
        The peak rate of the last layers. ``"auto"``: 1e-4 for images (5e-4 for a network with batch normalisation
        whose frozen features leave more than a tenth of the left-out examples wrong), 2e-4 for texts; ``"find"``: by a
        range test on the first batches.
    layer_decay : float or "auto"
        The factor of the rate from one layer group to the one before it. ``"auto"``: so that the first group's rate
        is a tenth of the last one's.
    weight_decay, warmup, clip : float
        Of the optimizer; see `graft.training.Recipe`. ``clip=None``: gradients are not clipped.
    label_smoothing : float
        ε of the targets, for single-label classification.
    mixup, cutmix : float
        α of these mixtures of pictures; 0: none.
    augment : float
        How strongly training views of images are varied in colour and shape besides cuts and mirroring: the magnitude
        of RandAugment, 0 to 10.
    mirror : bool or "auto"
        Whether half of the training views are mirrored. ``"auto"``: unless mirrored pictures are other things (digits,
        letters), which a short training on some of the examples finds out; ``training_["mirroring"]`` says what it
        found. It costs a quarter of the steps that choose, 60 at most (from random weights 300); before trainings of
        fewer than 40 steps it is left out.
    views : int or None
        Train on so many fixed views of each image in turn, the plain one first; None: every epoch shows a new one.
    cache : bool
        With ``train`` a number and fixed views (of texts there is one): keep the activations before the first trained
        layer, so that an epoch does not compute what is frozen.
    class_weight : "balanced", dict or None
        The weight of each class in the loss; for multi-label tasks, of the two values (0 and 1) of each label.
    batch_norm : {"auto", "frozen", "train"}
        Whether batch normalisation keeps its statistics; ``"auto"``: frozen where the network is pretrained.
    precision : {"auto", "float32", "bfloat16"}
        Of the training; ``"auto"`` computes in bfloat16 where the device is faster in it (weights stay in float32).
    recompute : bool
        Keep fewer activations for the backward pass and compute them again (gradient checkpointing): less memory, a
        third more time.
    average : float, optional
        The decay of an exponential average of the weights, which is then what is evaluated.
    patience : int or None
        End early after so many evaluations without a better one.
    soup : int
        Up to how many of the best checkpoints are averaged, each only if the held-out score does not fall.
    guard : bool
        Serve the probe, or an average with the pretrained weights, where held-out examples speak for it. False: serve
        the fine-tuned network in any case.
    validation : float
        The fraction that is held out where `fit` is not given held-out examples.
    refit : bool or "auto"
        Train once more on all examples, the held-out ones too, what these have chosen. ``"auto"``: below 5,000.
    checkpoints : path, optional
        A folder for checkpoints; removed when the training is done.
    resume : bool
        Continue from there.
    log_folder : path, optional
        Write loss, rate and held-out figures of every step there for TensorBoard.
    strict, device, store, random_state
        As in `FeatureExtraction`.

    Attributes
    ----------
    backbone_, head_, task_, classes_, left_out_, unlabelled_, seconds_, validation_
        See `Technique`. ``validation_`` is of the held-out examples, which also chose the model: a little kind to it.
    training_ : dict
        ``steps``, ``losses``, ``evaluations``, ``skipped``, ``trained_parameters``, ``mirroring`` (whether views were
        mirrored, and why; None where it was not asked), and ``verdict``: which candidate is served and by how much it
        beats the probe.

    References
    ----------
    Kumar et al. (2022), Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution (LP-FT).
    Wortsman et al. (2022), Robust Fine-tuning of Zero-shot Models; and Model Soups.

    Examples
    --------
    >>> from graft import FineTuning
    >>> texts = ["a fine day", "a good meal", "so glad", "an awful day", "a bad meal", "so sad"] * 4
    >>> model = FineTuning("minilm", epochs=1, batch_size=6).fit(texts, ["good"] * 3 + ["bad"] * 3 + ["good"] * 18)
    ... # doctest: +SKIP
    """

    technique = "fine-tuning"

    def __init__(
        self,
        backbone: Any = None,
        *,
        pretrained: bool = True,
        objective: str = "supervised",
        train: str | int = "all",
        rank: int = 8,
        keep_adapters: bool = False,
        regularizer: str | None = None,
        strength: float | None = None,
        task: str = "auto",
        label_names: Any = None,
        layer: Any = None,
        pooling: str | None = None,
        image_size: Any = None,
        epochs: Any = "auto",
        batch_size: int = 32,
        parts: int = 1,
        learning_rate: Any = "auto",
        layer_decay: Any = "auto",
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        clip: float | None = 1.0,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        augment: float = 0.0,
        mirror: Any = "auto",
        views: int | None = None,
        cache: bool = True,
        class_weight: Any = None,
        batch_norm: str = "auto",
        precision: str = "auto",
        recompute: bool = False,
        average: float | None = None,
        patience: int | None = None,
        soup: int = 3,
        guard: bool = True,
        validation: float = 0.2,
        refit: Any = "auto",
        checkpoints: Any = None,
        resume: bool = False,
        log_folder: Any = None,
        strict: bool = False,
        device: str | None = None,
        store: Any = True,
        random_state: int | None = 0,
    ) -> None:
        self.backbone = backbone
        self.pretrained = pretrained
        self.objective = objective
        self.train = train
        self.rank = rank
        self.keep_adapters = keep_adapters
        self.regularizer = regularizer
        self.strength = strength
        self.task = task
        self.label_names = label_names
        self.layer = layer
        self.pooling = pooling
        self.image_size = image_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.parts = parts
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.clip = clip
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.cutmix = cutmix
        self.augment = augment
        self.mirror = mirror
        self.views = views
        self.cache = cache
        self.class_weight = class_weight
        self.batch_norm = batch_norm
        self.precision = precision
        self.recompute = recompute
        self.average = average
        self.patience = patience
        self.soup = soup
        self.guard = guard
        self.validation = validation
        self.refit = refit
        self.checkpoints = checkpoints
        self.resume = resume
        self.log_folder = log_folder
        self.strict = strict
        self.device = device
        self.store = store
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, *, validation: Domain | None = None
    ) -> Self:
        """Train on inputs and their labels.

        Parameters
        ----------
        X : sequence of n inputs
            Paths, PIL images or arrays; or texts.
        y : array of shape (n,), or (n, labels) for multi-label tasks and (n, outputs) for several numbers
            Examples without a label are left out.
        sample_weight : array of shape (n,), optional
            The weight of each example in the loss.
        groups : array of shape (n,), optional
            Examples of one group are held out together.
        validation : Domain, optional
            Labelled examples that are held out to choose by; by default a part of those above. Where `refit` says
            so, the choice is trained on them too in the end.

        Raises
        ------
        RequestError
            If an option cannot be used.
        DataError
            If the inputs or labels cannot be used.
        TrainingError
            If the loss stays infinite or not a number.
        """
        started = time.perf_counter()
        self._check()
        backbone = self._backbone()
        inputs, labels, weight, groups, held_out = joined(X, y, sample_weight, groups, validation)
        what = given(
            inputs,
            labels,
            task=self.task,
            label_names=getattr(y, "columns", None) if self.label_names is None else self.label_names,
            sample_weight=weight,
            groups=groups,
        )
        self._check_suited(backbone, what.task.kind)
        if self.pretrained:
            found = embedded(
                backbone,
                what,
                views=1,
                batch_size=None,
                precision="auto",
                store=self.store,
                strict=self.strict,
                random_state=self.random_state,
            )
        else:
            found = readable(backbone, what, strict=self.strict)
        prepared = time.perf_counter()
        held = hold_out(found, self.validation, self.random_state) if validation is None else held_out[found.rows]
        material = Material(
            backbone,
            [inputs[row] for row in found.rows],
            found,
            goal_of(found, ~held, smoothing=self.label_smoothing, class_weight=self.class_weight),
            self.class_weight,
            Views(seed=self._seed, magnitude=self.augment, mirror="never" if self.mirror is False else "random"),
        )
        self.task_ = found.task
        require_both(found, held)
        self._train_and_choose(material, held)
        ended = time.perf_counter()
        self.left_out_, self.unlabelled_ = found.failures, found.unlabelled
        self.seconds_ = {"features": prepared - started, "training": ended - prepared, "total": ended - started}
        return self

    def _check(self) -> None:
        settings = self._settings()
        require_objective(self.objective, settings)
        require_beside(self.regularizer, self.strength, self.objective, settings)
        number("label_smoothing", self.label_smoothing, low=0, high=0.999)
        number("validation", self.validation, low=0, high=0.9, open_low=True)
        if self.refit not in (True, False, "auto"):
            raise RequestError("refit", expected="True, False or 'auto'", found=repr(self.refit), remedy="Pass one.")
        if self.mirror not in (True, False, "auto"):
            raise RequestError("mirror", expected="True, False or 'auto'", found=repr(self.mirror), remedy="Pass one.")
        if self.keep_adapters and not (self.pretrained and self.train in ADAPTERS):
            raise RequestError(
                "keep_adapters",
                expected="train='lora' or 'dora' of a pretrained network beside it",
                found=f"train={self.train!r}, pretrained={self.pretrained}",
                remedy="Leave it out.",
            )
        if isinstance(self.class_weight, str):
            one_of("class_weight", self.class_weight, ["balanced"])
        if self.log_folder is not None:
            require_tensorboard()
        require_folder(self.checkpoints, resume=self.resume)

    def _check_suited(self, backbone: Backbone, kind: str) -> None:
        """Refuse options that do not fit the network or the task."""
        self._settings().require_suited(backbone)
        if self.regularizer is not None:
            require_usable(self.regularizer, backbone, kind)
        require_fit_for(kind, self.objective, self.label_smoothing)
        if self.class_weight is not None and kind == "regression":
            raise RequestError(
                "class_weight",
                expected="None for numbers, which have no classes",
                found=repr(self.class_weight),
                remedy="Pass sample_weight to fit instead.",
            )

    def _backbone(self) -> Backbone:
        backbone = load_backbone(
            self.backbone,
            layer=self.layer,
            pooling=self.pooling,
            pretrained=self.pretrained,
            image_size=self.image_size,
            device=self.device,
            random_state=self._seed,
        )
        if self.keep_adapters and backbone.own_weights:
            raise RequestError(
                "keep_adapters",
                expected="a network that can be had by its name",
                found="one with weights of a saved run",
                remedy="Leave it out: the run then holds the merged network.",
            )
        return backbone

    @property
    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)

    def _train_and_choose(self, material: Material, held: np.ndarray) -> None:
        """Train, let the held-out examples choose what is served, and set the fitted state."""
        settings = self._settings()
        if self.pretrained:
            material.probe(~held, self.random_state)  # the training starts from its linear head, where it has one
            if self.learning_rate == "auto" and material.is_far(~held, self.random_state):
                settings = leaving_photos(settings, material.backbone)
        phases = Phases(self.checkpoints, self.get_params(deep=False), resume=self.resume)
        mirroring = None
        if is_undecided(self.mirror, material, settings):
            mirroring = try_mirroring(material, held, settings, least_steps=LEAST_STEPS[self.objective], phases=phases)
            if not mirroring.mirrored:
                material = material.seen_as(replace(material.views, mirror="never"))
        objective = task_objective(
            material, settings, kind=self.objective, regularizer=self.regularizer, strength=self.strength
        )
        training = NetworkTraining(material, settings, objective)
        searched = run = training.run(
            ~held, held, phases.checkpoints("chosen", material, held), "fine-tuning", self.log_folder
        )
        choice = choose(
            material,
            run,
            held,
            probe=self.pretrained,
            guard=self.guard,
            adapters=settings.adapters,
            bfloat16=training.bfloat16,
            goes_far=training.goes_far,
            random_state=self.random_state,
        )
        self.validation_, temperature = calibrated(material, choice.outputs, held)
        few = len(held) < _REFITTED
        refitted, tuned = choice.served != PROBE and (few if self.refit == "auto" else self.refit), choice.tuned
        if refitted:
            if self.patience is not None:
                # As long as the best weights took, with a schedule of that length.
                training = training.lasting(max(choice.soup) / run.steps_per_epoch)
            everything = np.ones_like(held)
            run = training.run(everything, None, phases.checkpoints("all", material, held), "on all examples")
            tuned = {name: run.network.state_dict()[name].clone() for name in tuned}
        self.backbone_, self.head_ = serve(
            material,
            run,
            None if choice.served == PROBE else towards(run, tuned, choice.share),
            # Held-out examples are left out of the head only where that was asked for.
            known=~held if self.refit is False else np.ones_like(held),
            temperature=temperature,
            keep_adapters=self.keep_adapters,
            random_state=self.random_state,
        )
        self.training_ = {
            **searched.to_dict(),
            "examples_seen": searched.examples_seen
            + (run.examples_seen if refitted else 0)
            + (0 if mirroring is None else mirroring.examples_seen),
            "trained_parameters": run.trained_parameters,
            "cached": run.cached,
            "soup": choice.soup,
            "refitted": refitted,
            "mirroring": None if mirroring is None else mirroring.to_dict(),
            "served": choice.served,
            "verdict": None if choice.verdict is None else choice.verdict.to_dict(),
        }
        phases.clear()

    def _settings(self) -> Settings:
        names = (field.name for field in fields(Settings) if field.name != "seed")
        return Settings(**{name: getattr(self, name) for name in names}, seed=self._seed)
