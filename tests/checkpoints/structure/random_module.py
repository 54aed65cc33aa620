"""`RandomModule`: a network of the kinds that training scripts hold, drawn by a seed, with a forward of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

FUNCTIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "leaky_relu": functional.leaky_relu,
    "softplus": functional.softplus,
    "exp": torch.exp,
    "softmax": lambda values: values.softmax(-1),
    "log_softmax": lambda values: values.log_softmax(-1),
    "l2_norm": lambda values: values / values.norm(dim=-1, keepdim=True),
}
NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}
NORM_NAMES = ("norm", "bn", "ln", "layer_norm", "input_norm")
HEAD_NAMES = ("fc", "linear", "head", "out")
ALONG_TIME = 3  # axes: (batch, time, width)


@dataclass
class Plan:
    """What a module is made of."""

    seed: int
    tokens: int | None = None
    features: int = 3
    before: list[tuple[str, str | None]] = field(default_factory=list)
    join: str = "one"
    lstm: dict[str, object] = field(default_factory=dict)
    count: int = 1
    norms_between: bool = False
    pool: str = "all"
    pool_is_behind: bool = False
    norm_behind: str | None = None
    first: str | None = None
    linear: int = 1
    inner: str | None = "relu"
    inner_norm: bool = False
    last: str | None = None
    outputs: int = 2

    @classmethod
    def draw(cls, seed: int) -> Plan:
        """The plan of a seed."""
        random = Random(seed)  # noqa: S311 - reproducible
        plan = cls(seed, tokens=random.choice((None, None, 9)), features=random.randint(2, 4))
        kinds = ("norm", "linear", "conv")
        if random.random() < 0.5:
            for kind in random.sample(kinds, random.choice((1, 1, 2))):
                plan.before.append((kind, random.choice((None, "relu", "tanh")) if kind != "norm" else None))
        plan.join = random.choice(("one", "one", "one", "stacked", "residual", "parallel", "parallel=add"))
        plan.lstm = {"bidirectional": random.random() < 0.4, "bias": random.random() < 0.8}
        if plan.join == "one":
            plan.lstm |= {"num_layers": random.randint(1, 3), "proj_size": random.choice((0, 0, 3))}
        else:
            plan.count = random.randint(2, 3) if plan.join != "parallel=add" else 2
        plan.norms_between = plan.join in {"stacked", "residual"} and random.random() < 0.3
        plan.pool = random.choice(("all", "all", "last", "last", "final", "mean", "max", "sum"))
        if plan.pool == "final" and plan.join.startswith("parallel"):
            plan.pool = "last"
        plan.pool_is_behind = plan.pool in {"mean", "max", "sum"} and random.random() < 0.3
        plan.norm_behind = random.choice((None, None, None, "batch", "layer"))
        plan.linear = random.choice((0, 1, 1, 2, 2, 3))
        plan.first = random.choice((None, None, "relu", "tanh")) if plan.linear else None
        plan.inner = random.choice(("relu", "relu", "tanh", "gelu", "leaky_relu", None))
        plan.inner_norm = plan.linear > 1 and random.random() < 0.2
        plan.outputs = random.randint(1, 4)
        lasts = (None, None, None, "relu", "sigmoid", "tanh", "softplus", "exp", "softmax", "log_softmax", "l2_norm")
        plan.last = random.choice(lasts)
        if plan.linear and plan.outputs == 1 and plan.last in {"softmax", "log_softmax", "l2_norm"}:
            plan.last = None  # always the same number
        return plan


class RandomModule(nn.Module):
    """The module of a plan; its parts are made in the order in which they run."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan, random = plan, Random(plan.seed + 1)  # noqa: S311 - reproducible
        width = plan.features
        if plan.tokens is not None:
            width = random.randint(3, 5)
            self.embedding = nn.Embedding(plan.tokens, width)
        self.ahead = []
        for kind, function in plan.before:
            given = width if kind == "norm" else random.randint(3, 6)
            self._add(self.ahead, f"pre_{kind}", self._before(kind, width, given, random), function)
            width = given
        self.lstms, self.between = [], []
        hidden = width if plan.join == "residual" and not plan.lstm["bidirectional"] else random.randint(4, 6)
        directions = 2 if plan.lstm["bidirectional"] else 1
        if plan.join == "residual" and directions == 2:
            plan.lstm["bidirectional"], directions, hidden = False, 1, width
        for index in range(plan.count):
            name = "lstm" if plan.count == 1 else f"lstm{index + 1}"
            if plan.join == "stacked":
                hidden = random.randint(4, 6)
            self.add_module(name, nn.LSTM(width, hidden, batch_first=True, **plan.lstm))
            self.lstms.append(name)
            given = (plan.lstm.get("proj_size") or hidden) * directions
            if plan.norms_between and index < plan.count - 1:
                self.add_module(f"between{index}", nn.LayerNorm(given))
                self.between.append(f"between{index}")
            width = width if plan.join.startswith("parallel") else given
        width = given * (plan.count if plan.join == "parallel" else 1)
        self.behind = []
        if plan.norm_behind is not None:
            self._add(self.behind, random.choice(NORM_NAMES), NORMS[plan.norm_behind](width), None)
        for index in range(plan.linear):
            given = plan.outputs if index == plan.linear - 1 else random.randint(4, 7)
            name = f"{random.choice(HEAD_NAMES)}{index}"
            self._add(self.behind, name, nn.Linear(width, given), None if index == plan.linear - 1 else plan.inner)
            if plan.inner_norm and index < plan.linear - 1:
                self._add(self.behind, f"mid_norm{index}", nn.LayerNorm(given), None)
            width = given
        self._disturb()

    def _add(self, places: list, name: str, module: nn.Module, function: str | None) -> None:
        self.add_module(name, module)
        places.append((name, function))

    @staticmethod
    def _before(kind: str, width: int, given: int, random: Random) -> nn.Module:
        if kind == "norm":
            return random.choice((nn.BatchNorm1d, nn.LayerNorm))(width)
        return nn.Linear(width, given) if kind == "linear" else nn.Conv1d(width, given, 3, padding=1)

    def _disturb(self) -> None:
        """Weights as training leaves them: norms that are not the identity, larger matrices."""
        generator = torch.Generator().manual_seed(self.plan.seed)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.uniform_(-1, 1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
        with torch.no_grad():
            for name, value in self.named_parameters():
                value.uniform_(-0.9, 0.9, generator=generator)
                if value.dim() == 1 and name.endswith("weight"):
                    value.add_(1.5)
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, time, feature) or (batch, time) ids -> the prediction."""
        plan = self.plan
        values = self.embedding(inputs) if plan.tokens is not None else inputs
        for name, function in self.ahead:
            values = self._apply(name, function, values)
        output, h_n = self._recurrent(values)
        if plan.pool != "all" and not plan.pool_is_behind:
            output = self._pooled(output, h_n)
        if plan.first is not None:
            output = FUNCTIONS[plan.first](output)
        for name, function in self.behind:
            output = self._apply(name, function, output)
        if plan.pool_is_behind:
            output = self._pooled(output, h_n)
        return output if plan.last is None else FUNCTIONS[plan.last](output)

    def _recurrent(self, values: Tensor) -> tuple[Tensor, Tensor]:
        join, h_n = self.plan.join, None
        if join.startswith("parallel"):
            outputs = [self.get_submodule(name)(values)[0] for name in self.lstms]
            return (sum(outputs) if join.endswith("add") else torch.cat(outputs, -1)), outputs[0]
        for index, name in enumerate(self.lstms):
            output, (h_n, _) = self.get_submodule(name)(values)
            values = values + output if join == "residual" else output
            if index < len(self.between):
                values = self.get_submodule(self.between[index])(values)
        return values, h_n

    def _pooled(self, output: Tensor, h_n: Tensor) -> Tensor:
        how = self.plan.pool
        if how == "final":
            if self.plan.join == "residual":
                return output[:, -1]
            return torch.cat([h_n[-2], h_n[-1]], -1) if self.plan.lstm["bidirectional"] else h_n[-1]
        return {
            "last": lambda: output[:, -1],
            "mean": lambda: output.mean(1),
            "max": lambda: output.amax(1),
            "sum": lambda: output.sum(1),
        }[how]()

    def _apply(self, name: str, function: str | None, values: Tensor) -> Tensor:
        module = self.get_submodule(name)
        if values.dim() == ALONG_TIME and isinstance(module, nn.BatchNorm1d | nn.Conv1d):
            values = module(values.transpose(1, 2)).transpose(1, 2)
        else:
            values = module(values)
        return values if function is None else FUNCTIONS[function](values)

    def inputs(self, seed: int, batch: int, time: int, scale: float = 1.5) -> Tensor:
        """A batch that the module takes."""
        generator = torch.Generator().manual_seed(seed)
        if self.plan.tokens is not None:
            return torch.randint(0, self.plan.tokens, (batch, time), generator=generator)
        return scale * torch.randn(batch, time, self.plan.features, generator=generator)

    def fed(self, inputs: Tensor) -> dict[str, Tensor]:
        """What each of its recurrent layers is called with, by name."""
        seen: dict[str, Tensor] = {}
        hooks = [
            self.get_submodule(name).register_forward_pre_hook(
                lambda _, given, name=name: seen.__setitem__(name, given[0].detach())
            )
            for name in self.lstms
        ]
        with torch.no_grad():
            self(inputs)
        for hook in hooks:
            hook.remove()
        return seen
