"""Multi-task learning: several related tasks at once, on what they share."""

from __future__ import annotations

import time
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from graft._checks import integer, one_of
from graft.backbones import Backbone, FeatureBackbone, Views, load_backbone
from graft.backbones.store import open_store
from graft.balancing.task_order import TASK_SAMPLINGS
from graft.data import Domain
from graft.errors import RequestError, UnreadableInputsError
from graft.techniques.holding_out import joined
from graft.techniques.kept_heads import KeptHeads
from graft.techniques.labelled import readable_rows, require_texts
from graft.techniques.material import Material, goal_of
from graft.techniques.multiple.balance import make_balancing
from graft.techniques.multiple.fitting import Design, Fitter
from graft.techniques.multiple.folding import deal_folds
from graft.techniques.multiple.grouping import found_groups, stated_groups
from graft.techniques.multiple.joint_head import COMMON_AND_OWN, FEATURES, SHARINGS, STACKED, Middle
from graft.techniques.multiple.joint_material import JointMaterial
from graft.techniques.multiple.label_columns import LabelColumn, label_columns, mean_the_same, require_learnable
from graft.techniques.multiple.learning import learn
from graft.techniques.multiple.part import dense
from graft.techniques.multiple.task_technique import TaskTechnique
from graft.techniques.phases import Phases, require_folder
from graft.techniques.settings import Settings
from graft.techniques.technique import Failure


class MultiTask(TaskTechnique):
    r"""Learn several tasks at once: on the features of a frozen network, or with the network.

    The label table has a column per task and may be empty in most cells: every example counts in the tasks that it has
    a label of. Task k predicts by a linear head on what stands between it and the features (`sharing`); all heads are
    trained together, by one loss or one gradient made of the tasks' (`balancing`).

    Parts of the examples are held out in turn, and every task is also learnt alone on the same parts: as the same
    network with one task, and as the best head for the frozen features. ``verdict_`` compares together with the better
    one of the two.

    Parameters
    ----------
    backbone : str, path, Backbone or None
        What `load_backbone` takes. None: the inputs are feature vectors already.
    tasks : sequence of str or Task, mapping, or None
        Which columns are learnt (all, by default), and what they are: ``{"species": "classification", "damage":
        "regression", "tags": ["round", "red"]}``; several columns of zeros and ones are one multi-label task. What is
        not stated follows from the column: text, booleans and numbers with at most 20 different whole values are
        classes, other numbers a regression.
    label_names : sequence of str, optional
        What the columns of the label table are called; by default the columns of a data frame, or their positions.
    train : int or str
        What is trained besides the heads: 0, nothing of the network (its features are computed once, and a fit takes
        seconds); ``"all"`` of it, the last k layer groups, ``"gradual"``, ``"biases"``, ``"normalizations"``,
        ``"lora"``, ``"dora"``, as in `FineTuning`.
    pretrained : bool
        False: the network starts from random weights, and all of it is trained.
    sharing : str
        What tasks share besides the network. ``"features"``: nothing, each has a head on the features; ``"stacked"``:
        heads to which what the heads of the other tasks say is added, as strongly as left-out examples speak for it, in
        closed form; ``"hard"``: a hidden network for all; ``"mmoe"``, ``"ple"``, ``"cross-stitch"``, ``"adapters"``:
        see `graft.sharing`; ``"common-and-own"``: for tasks that mean the same thing in different domains, a common
        linear model and one for each task, which is shrunk. ``"auto"``: ``"features"`` where the network is trained;
        else ``"common-and-own"`` where all tasks have the same classes, and ``"stacked"`` otherwise.
    sharing_options : dict, optional
        Of the module, such as ``{"hidden": [256]}``.
    balancing : str
        Of the training, where there is one: a name of `graft.balancing.LOSS_WEIGHTINGS` or of
        `graft.balancing.AGGREGATORS`.
    balancing_options : dict, optional
        Of that method; for ``"static"``, ``{"task_weight": {task: weight}}``.
    exact : bool
        Aggregate gradients in the parameters that the tasks share, with a backward pass for each task, instead of at
        the representation that they share.
    sampling : str
        How often each task stands in a batch; see `graft.balancing.TaskOrder`. ``"proportional"`` draws from all
        examples alike.
    grouping : sequence of sequences of str, "auto" or None
        Tasks that are learnt together; None: all. ``"auto"``: as fits of pairs on the frozen features advise (of more
        than eight tasks, the angles of their gradients). These look at the first part that is held out, so that the
        verdict, which is measured on all parts, is a little in favour of the groups.
    protect : bool
        Serve the single-task solution of a task that learning together harms beyond its interval.
    compare : bool
        Learn every task alone too. False saves that time, and there is no verdict.
    folds : int or "auto"
        Parts that are held out in turn. ``"auto"``: 5 where the network is frozen; else one fifth is held out once (1).
    layer, pooling, image_size
        As in `FineTuning`.
    epochs, batch_size, parts, learning_rate, layer_decay, weight_decay, warmup, clip, augment, batch_norm, precision,
    recompute, average, rank
        Of the training, as in `FineTuning`.
    checkpoints, resume, strict, device, store, random_state
        As in `FineTuning`.

    Attributes
    ----------
    tasks_, parts_, columns_, validation_, verdict_, groups_, affinity_, left_out_, unlabelled_, seconds_, training_
        See `TaskTechnique`.

    References
    ----------
    Caruana (1997), Multitask Learning. Standley et al. (2020), Which Tasks Should Be Learned Together in Multi-task
    Learning?

    Examples
    --------
    >>> import numpy as np
    >>> from graft import MultiTask
    >>> draws = np.random.default_rng(0)
    >>> X = draws.normal(size=(200, 8)).astype(np.float32)
    >>> Y = np.empty((200, 2), dtype=object)
    >>> Y[:, 0] = np.where(X[:, 0] > 0, "up", "down")
    >>> Y[:60, 1] = X[:60, 0] + 0.5 * X[:60, 1]
    >>> model = MultiTask(label_names=["direction", "height"], compare=False, store=False, random_state=0).fit(X, Y)
    >>> model.predict(X[:1]).shape, [task.kind for task in model.tasks_]
    ((1, 2), ['classification', 'regression'])
    """

    technique = "multi-task"

    def __init__(
        self,
        backbone: Any = None,
        *,
        tasks: Any = None,
        label_names: Any = None,
        train: str | int = 0,
        pretrained: bool = True,
        sharing: str = "auto",
        sharing_options: Any = None,
        balancing: str = "equal",
        balancing_options: Any = None,
        exact: bool = False,
        sampling: str = "proportional",
        grouping: Any = None,
        protect: bool = False,
        compare: bool = True,
        folds: Any = "auto",
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
        augment: float = 0.0,
        batch_norm: str = "auto",
        precision: str = "auto",
        recompute: bool = False,
        average: float | None = None,
        rank: int = 8,
        checkpoints: Any = None,
        resume: bool = False,
        strict: bool = False,
        device: str | None = None,
        store: Any = True,
        random_state: int | None = 0,
    ) -> None:
        self.backbone = backbone
        self.tasks = tasks
        self.label_names = label_names
        self.train = train
        self.pretrained = pretrained
        self.sharing = sharing
        self.sharing_options = sharing_options
        self.balancing = balancing
        self.balancing_options = balancing_options
        self.exact = exact
        self.sampling = sampling
        self.grouping = grouping
        self.protect = protect
        self.compare = compare
        self.folds = folds
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
        self.augment = augment
        self.batch_norm = batch_norm
        self.precision = precision
        self.recompute = recompute
        self.average = average
        self.rank = rank
        self.checkpoints = checkpoints
        self.resume = resume
        self.strict = strict
        self.device = device
        self.store = store
        self.random_state = random_state

    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, groups: Any = None, validation: Domain | None = None
    ) -> Self:
        """Fit on inputs of shape (n,) or (n, ...) and a label table (n, columns).

        Parameters
        ----------
        X : sequence of n inputs
            Paths, pictures, texts or feature vectors, as the backbone reads them.
        Y : table of shape (n, columns)
            A data frame, an array or a list of rows; missing cells are None, NaN or empty.
        sample_weight : array of shape (n,), optional
            The weight of each example in all losses.
        groups : array of shape (n,), optional
            Examples of one group are held out together.
        validation : Domain, optional
            Labelled examples that are held out to compare by, instead of parts of those above; the model that is
            served learns from them too in the end.

        Raises
        ------
        RequestError
            If an option cannot be used.
        DataError
            If nothing can be learnt from a column, or the inputs cannot be used; the message names the column.
        TrainingError
            If the loss stays infinite or not a number.
        """
        started = time.perf_counter()
        settings = self._settings()
        backbone = self._backbone()
        inputs, labels, weight, groups, held_out = joined(X, Y, sample_weight, groups, validation)
        columns = label_columns(labels, self.tasks, self._names(Y))
        if validation is not None:
            require_learnable(columns, held_out)
        self._check(columns, backbone, settings)
        rows, features, failures = self._read(backbone, X if validation is None else inputs)
        known = np.any([column.known[rows] for column in columns], axis=0)
        rows, features = rows[known], None if features is None else features[known]
        materials = self._materials(backbone, inputs, columns, rows, features, weight, groups, failures)
        prepared = time.perf_counter()
        frozen = self._frozen(backbone)
        joint = JointMaterial(backbone, materials[0].inputs, materials)
        if frozen:
            looped = self._sharing(columns, backbone) not in (COMMON_AND_OWN, STACKED)
            plain = dense(features) if looped else np.empty((len(rows), 0))
            joint = JointMaterial(FeatureBackbone(), list(plain), materials)
        fitter = Fitter(joint, self._design(settings, columns, backbone), self.random_state)
        folds = self._folds(materials) if validation is None else [held_out[rows]]
        self.affinity_ = None
        groups_found = [tuple(range(len(columns)))]
        if isinstance(self.grouping, str) and self.grouping == "auto":
            groups_found, self.affinity_ = self._found_groups(fitter, joint, columns, folds[0])
        elif self.grouping is not None:
            groups_found = stated_groups(self.grouping, [column.task.name for column in columns])
        phases = Phases(self.checkpoints, self.get_params(deep=False), resume=self.resume)
        learned = learn(fitter, groups_found, folds, phases, compare=self.compare, protect=self.protect)
        ended = time.perf_counter()
        self.tasks_ = tuple(column.task for column in columns)
        self.parts_, self.validation_, self.verdict_ = learned.parts, learned.validation, learned.verdict
        self.training_ = learned.training
        self.groups_ = tuple(tuple(columns[place].task.name for place in group) for group in groups_found)
        self.left_out_, self.unlabelled_ = failures, int((~known).sum())
        self.seconds_ = {"features": prepared - started, "training": ended - prepared, "total": ended - started}
        phases.clear()
        return self

    def _check(self, columns: tuple[LabelColumn, ...], backbone: Backbone, settings: Settings) -> None:
        """Refuse what cannot be done, before anything is computed."""
        make_balancing(self.balancing, [column.task for column in columns], self._balancing_options)
        for name in dict(self._balancing_options.get("task_weight", {})):
            one_of("task_weight", name, [column.task.name for column in columns])
        one_of("sampling", self.sampling, TASK_SAMPLINGS)
        one_of("sharing", self.sharing, ("auto", *SHARINGS))
        if self.folds != "auto":
            integer("folds", self.folds, low=1)
        require_folder(self.checkpoints, resume=self.resume)
        frozen = self._frozen(backbone)
        if not frozen:
            settings.require_suited(backbone)
        if self.grouping is not None and not isinstance(self.grouping, str):
            stated_groups(self.grouping, [column.task.name for column in columns])
        elif self.grouping not in (None, "auto"):
            stated_groups(self.grouping, ())
        chosen, options = self._sharing(columns, backbone), dict(self.sharing_options or {})
        if chosen not in (STACKED, COMMON_AND_OWN):
            Middle(chosen, len(columns), 1, options=options)
        elif options:
            raise RequestError(
                "sharing_options", expected=f"none for {chosen!r}", found=", ".join(options), remedy="Leave them out."
            )
        if self.sharing == STACKED and not (frozen and self.pretrained):
            raise RequestError(
                "sharing",
                expected="a frozen network (train=0) for 'stacked'",
                found=f"train={self.train!r}, pretrained={self.pretrained}",
                remedy="Leave it out, or pass train=0.",
            )
        if self.sharing == COMMON_AND_OWN and not (frozen and mean_the_same(columns)):
            raise RequestError(
                "sharing",
                expected="tasks with the same classes, or numbers alone, on a frozen network for 'common-and-own'",
                found=", ".join(f"{column.task.name} ({column.task.kind})" for column in columns)
                if frozen
                else f"train={self.train!r}",
                remedy="Pass sharing='hard', or leave it out.",
            )
        if self.grouping == "auto" and not self.pretrained:
            raise RequestError(
                "grouping",
                expected="groups of tasks where there is no pretrained network",
                found="'auto'",
                remedy="State the groups, or leave them out.",
            )

    def _frozen(self, backbone: Backbone) -> bool:
        """Whether the network's features are computed once."""
        empty = not any(True for _ in backbone.module.parameters())  # vectors as they are
        return empty or (self.pretrained and self.train == 0)

    def _sharing(self, columns: tuple[LabelColumn, ...], backbone: Backbone) -> str:
        if self.sharing != "auto":
            return self.sharing
        if not self._frozen(backbone):
            return FEATURES
        return COMMON_AND_OWN if len(columns) > 1 and mean_the_same(columns) else STACKED

    def _design(self, settings: Settings, columns: tuple[LabelColumn, ...], backbone: Backbone) -> Design:
        return Design(
            sharing=self._sharing(columns, backbone),
            options={} if self.sharing_options is None else dict(self.sharing_options),
            balancing=self.balancing,
            balancing_options=self._balancing_options,
            exact=self.exact,
            sampling=self.sampling,
            settings=settings,
        )

    def _settings(self) -> Settings:
        return Settings(
            pretrained=self.pretrained,
            train="all" if not self.pretrained and self.train == 0 else self.train,
            epochs=self.epochs,
            batch_size=self.batch_size,
            parts=self.parts,
            learning_rate=self.learning_rate,
            rank=self.rank,
            layer_decay=self.layer_decay,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            clip=self.clip,
            augment=self.augment,
            views=None,
            batch_norm=self.batch_norm,
            precision=self.precision,
            recompute=self.recompute,
            average=self.average,
            seed=self._seed,
        )

    def _backbone(self) -> Backbone:
        return load_backbone(
            self.backbone,
            layer=self.layer,
            pooling=self.pooling,
            pretrained=self.pretrained,
            image_size=self.image_size,
            device=self.device,
            random_state=self._seed,
        )

    @property
    def _balancing_options(self) -> dict[str, Any]:
        return {} if self.balancing_options is None else dict(self.balancing_options)

    @property
    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)

    def _read(self, backbone: Backbone, X: Any) -> tuple[np.ndarray, Any, tuple[Failure, ...]]:
        """Return the rows that could be read, their features (None from random weights), and the others."""
        if not self.pretrained and backbone.modality != "features":
            rows, failures = readable_rows(backbone, X, strict=self.strict)
            features = None
        else:
            require_texts(backbone, X)
            embedding = self._embed(backbone, X, strict=self.strict)
            rows, features, failures = embedding.rows, embedding.features, embedding.failures
        if not len(rows):
            raise UnreadableInputsError(failures, len(failures))
        return rows, features, failures

    def _materials(
        self,
        backbone: Backbone,
        inputs: list[Any],
        columns: tuple[LabelColumn, ...],
        rows: np.ndarray,
        features: Any,
        weight: Any,
        groups: Any,
        failures: tuple[Failure, ...],
    ) -> tuple[Material, ...]:
        chosen, kept = [inputs[row] for row in rows], KeptHeads(open_store(self.store), backbone.name)
        views = Views(seed=self._seed, magnitude=self.augment)
        found = []
        for column in columns:
            labelled = column.labelled(
                rows, features, sample_weight=weight, groups=groups, failures=failures, kept=kept
            )
            found.append(Material(backbone, chosen, labelled, goal_of(labelled, column.known[rows]), None, views))
        return tuple(found)

    def _folds(self, materials: tuple[Material, ...]) -> list[np.ndarray]:
        """Return masks (n,) of what is held out in turn."""
        frozen = self._frozen(materials[0].backbone)
        folds = (5 if frozen else 1) if self.folds == "auto" else self.folds
        dealt = deal_folds(materials, max(folds, 2) if folds > 1 else 5, self._seed)
        return [dealt == number for number in range(folds)]

    def _found_groups(
        self, fitter: Fitter, joint: JointMaterial, columns: tuple[LabelColumn, ...], held: np.ndarray
    ) -> tuple[list[tuple[int, ...]], np.ndarray]:
        """Return groups by how the tasks get on with each other on the frozen features."""
        materials = joint.tasks
        if self._frozen(materials[0].backbone):
            return found_groups(fitter, held)
        frozen = clone(self).set_params(
            train=0, sharing="hard", sharing_options=None, epochs="auto", learning_rate="auto"
        )
        design = frozen._design(frozen._settings(), columns, materials[0].backbone)
        features = list(dense(materials[0].found.features))
        return found_groups(
            Fitter(JointMaterial(FeatureBackbone(), features, materials), design, self.random_state), held
        )
