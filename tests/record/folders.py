"""Folders of small models: the same weights on every machine, made without anything of the project."""

import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

Weights = dict[str, np.ndarray]

SHIPPED = Path(__file__).parents[2] / "models"
"""The models that the project brings."""

SPREAD = 0.6
"""Wide enough that the gates do not all stand at one half."""

THREE = '{name = "a", mean = 1.0, std = 2.0}, {name = "b"}, {name = "c"}'


def features(listed: str) -> str:
    """The `[input]` of a model of features."""
    return f'[input]\nkind = "features"\nfeatures = [{listed}]'


MANIFESTS = {
    "tiny": f"""
        description = "two quantities from three features"
        task = "regression"
        {features(THREE)}
        [head]
        steps = "all"
        [output]
        names = ["x", "y"]
        [[examples]]
        title = "two steps"
        request = {{inputs = [[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]}}
    """,
    "founding": f"""
        description = "the founding example: nn.LSTM(5, 6, 2)"
        {features('{name = "a"}, {name = "b"}, {name = "c"}, {name = "d"}, {name = "e"}')}
    """,
    "both-ways": f"""
        description = "two layers, both directions, projected"
        {features('{name = "x"}, {name = "y"}, {name = "z"}')}
    """,
    "forecaster": f"""
        description = "the next hour's level"
        task = "regression"
        {features('{name = "level", mean = 10.0, std = 2.0}, {name = "hour", period = 24}')}
        [head]
        [output]
        names = ["level"]
        mean = [10.0]
        std = [2.0]
        predicts = "next_step"
        [[examples]]
        title = "two hours"
        request = {{inputs = [[[10.0, 0.0], [11.0, 1.0]]]}}
    """,
    "river": f"""
        description = "discharge of the same day at two gauges"
        task = "regression"
        {features('{name = "rain"}, {name = "gauge", categories = [7, 9]}')}
        [head]
        [output]
        names = ["discharge"]
        minimum = [0.0]
    """,
    "letters": """
        description = "the next letter, the likeliest"
        task = "next_token"
        [input]
        kind = "tokens"
        vocabulary = "characters"
        characters = "abc "
        [head]
    """,
    "drawn": """
        description = "the next letter, drawn"
        task = "next_token"
        [input]
        kind = "tokens"
        vocabulary = "characters"
        characters = "abc "
        [head]
        [output]
        temperature = 0.8
        seed = 3
    """,
    "mood": """
        description = "a sentence's mood"
        task = "classification"
        [input]
        kind = "tokens"
        vocabulary = "words"
        file = "vocabulary.txt"
        unknown = "token"
        unknown_token = "<unknown>"
        [head]
        steps = "mean"
        [output]
        labels = ["glad", "sad", "neither"]
    """,
    "ids": """
        description = "the next of six tokens that nobody has named"
        task = "next_token"
        [input]
        kind = "tokens"
        vocabulary = "ids"
        size = 6
        [head]
    """,
    "verdict": f"""
        description = "one of three, from the last step"
        task = "classification"
        {features('{name = "a", mean = 1.0, std = 4.0}, {name = "b"}')}
        [head]
        steps = "last"
        [output]
        labels = ["p", "q", "r"]
    """,
    "final": f"""
        description = "one of two, from where both directions end; hidden layers in the head"
        task = "classification"
        {features('{name = "a"}, {name = "b"}')}
        [head]
        steps = "final"
        activation = "tanh"
        [output]
        labels = ["yes", "no"]
    """,
    "peak": f"""
        description = "a quantity of the whole sequence, from the maximum"
        task = "regression"
        {features('{name = "a"}, {name = "b"}')}
        [head]
        steps = "max"
        [output]
        names = ["peak"]
    """,
    "marks": f"""
        description = "one of three at each step"
        task = "tagging"
        {features('{name = "a"}, {name = "b"}')}
        [head]
        [output]
        labels = ["p", "q", "r"]
    """,
    "single": f"""
        description = "one feature"
        {features('{name = "a"}')}
    """,
    "unbiased": f"""
        description = "three layers without biases"
        {features('{name = "a"}, {name = "b"}')}
    """,
    "contradicting": f"""
        description = "says 7 units, has 6"
        {features('{name = "a"}, {name = "b"}, {name = "c"}, {name = "d"}, {name = "e"}')}
        [lstm]
        hidden_size = 7
    """,
}


class Weigher:
    """Makes weights, one after the other, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same on every machine

    def array(self, *shape: int) -> np.ndarray:
        """Numbers between plus and minus `SPREAD`."""
        numbers = [self._random.uniform(-SPREAD, SPREAD) for _ in range(int(np.prod(shape)))]
        return np.array(numbers, dtype=np.float32).reshape(shape)

    def lstm(
        self,
        name: str,
        inputs: int,
        hidden: int,
        layers: int = 1,
        *,
        both: bool = False,
        projected: int = 0,
        bias: bool = True,
    ) -> Weights:
        """Of an `nn.LSTM` at this path."""
        weights: Weights = {}
        state = projected or hidden
        for layer in range(layers):
            width = inputs if layer == 0 else state * (1 + both)
            for suffix in ("", "_reverse") if both else ("",):
                weights[f"{name}.weight_ih_l{layer}{suffix}"] = self.array(4 * hidden, width)
                weights[f"{name}.weight_hh_l{layer}{suffix}"] = self.array(4 * hidden, state)
                if bias:
                    weights[f"{name}.bias_ih_l{layer}{suffix}"] = self.array(4 * hidden)
                    weights[f"{name}.bias_hh_l{layer}{suffix}"] = self.array(4 * hidden)
                if projected:
                    weights[f"{name}.weight_hr_l{layer}{suffix}"] = self.array(projected, hidden)
        return weights

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True) -> Weights:
        """Of an `nn.Linear`."""
        weights = {f"{name}.weight": self.array(outputs, inputs)}
        return weights | ({f"{name}.bias": self.array(outputs)} if bias else {})

    def embedding(self, name: str, entries: int, width: int) -> Weights:
        """Of an `nn.Embedding`."""
        return {f"{name}.weight": self.array(entries, width)}


def regression(seed: int, inputs: int = 3, hidden: int = 4, outputs: int = 2) -> Weights:
    """Of a model such as `tiny`."""
    weigh = Weigher(seed)
    return weigh.lstm("lstm", inputs, hidden) | weigh.linear("head.0", hidden, outputs)


def _of_tokens(seed: int, entries: int, width: int, hidden: int, outputs: int) -> Weights:
    weigh = Weigher(seed)
    weights = weigh.embedding("embedding", entries, width) | weigh.lstm("lstm", width, hidden)
    return weights | weigh.linear("head.0", hidden, outputs)


def _two_linear(seed: int) -> Weights:
    weigh = Weigher(seed)
    weights = weigh.lstm("lstm", 2, 3, both=True) | weigh.linear("head.0", 6, 4)
    return weights | weigh.linear("head.2", 4, 2)


WEIGHTS: Mapping[str, Callable[[], Weights]] = {
    "tiny": lambda: regression(1),
    "founding": lambda: Weigher(2).lstm("lstm", 5, 6, 2),
    "both-ways": lambda: Weigher(3).lstm("lstm", 3, 4, 2, both=True, projected=2),
    "forecaster": lambda: regression(4, 3, 5, 1),
    "river": lambda: regression(5, 3, 5, 1),
    "letters": lambda: _of_tokens(6, 4, 3, 5, 4),
    "drawn": lambda: _of_tokens(7, 4, 3, 5, 4),
    "mood": lambda: _of_tokens(8, 6, 4, 5, 3),
    "ids": lambda: _of_tokens(9, 6, 4, 5, 6),
    "verdict": lambda: regression(10, 2, 4, 3),
    "final": lambda: _two_linear(11),
    "peak": lambda: regression(12, 2, 4, 1),
    "marks": lambda: regression(13, 2, 4, 3),
    "single": lambda: Weigher(14).lstm("lstm", 1, 4),
    "unbiased": lambda: Weigher(15).lstm("lstm", 2, 3, 3, bias=False),
    "contradicting": lambda: Weigher(16).lstm("lstm", 5, 6),
}

WORDS = "<unknown>\nsun\nrain\nis\nhere\n.\n"


def write(root: Path, name: str, manifest: str, versions: Mapping[str, Weights], files: Mapping[str, str] = {}) -> None:
    """Write a model's folder."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(manifest, encoding="utf-8")
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    for version, weights in versions.items():
        (folder / version).mkdir()
        (folder / version / "model.safetensors").write_bytes(save(weights))


def plain(root: Path, *names: str) -> None:
    """Some of `MANIFESTS`, or all of them, and those that are more than one version, or none."""
    for name in names or MANIFESTS:
        files = {"vocabulary.txt": WORDS} if name == "mood" else {}
        write(root, name, MANIFESTS[name], {"1": WEIGHTS[name]()}, files)
    if not names:
        several = {version: regression(20 + index) for index, version in enumerate(("1", "2", "10"))}
        write(root, "several", MANIFESTS["tiny"], several)
        write(root, "pinned", f'default_version = "2"\n{MANIFESTS["tiny"]}', several)
        write(root, "counted", MANIFESTS["tiny"], {"1": regression(30)})
        write(root, "partly", MANIFESTS["tiny"], {"1": regression(31), "2": regression(32, 4)})
        write(root, "weightless", MANIFESTS["founding"], {})
        write(root, "illegible", 'description = "half a manifest', {"1": regression(33)})


def few(root: Path) -> None:
    """What is enough to be asked for something."""
    plain(root, "tiny", "founding", "both-ways", "letters", "single", "contradicting")


def few_and_one_of_code(root: Path) -> None:
    """The same, and a module of its own, which needs a permission."""
    few(root)
    forecaster = Weigher(40).lstm("lstm", 3, 4, 2)
    write(root, "coded", _module(":Forecaster", "regression", features(THREE), NAMES), {"1": forecaster})


def administered(root: Path) -> None:
    """What is loaded, unloaded and added to."""
    few(root)
    several = {version: regression(20 + index) for index, version in enumerate(("1", "2", "10"))}
    write(root, "several", MANIFESTS["tiny"], several)
    write(root, "weightless", MANIFESTS["founding"], {})


CODE = """
description = "a module of its own"
TASK
factory = "example_modules.FACTORY"
[factory_arguments]
ARGUMENTS
INPUT
[output]
OUTPUT
"""

TOKENS = '[input]\nkind = "tokens"\nvocabulary = "characters"\ncharacters = "abcde"'
NAMES = 'names = ["x", "y"]'


def _module(factory: str, task: str, inputs: str, output: str, arguments: str = "") -> str:
    manifest = CODE.replace("TASK", f'task = "{task}"' if task else "").replace("FACTORY", factory)
    manifest = manifest.replace("example_modules.:", "example_modules:").replace("ARGUMENTS", arguments)
    return manifest.replace("INPUT", inputs).replace("OUTPUT", output)


def modules(root: Path) -> None:
    """Models that are modules of their own, as `tests/packages` has them, one that is none, and what is shipped."""
    weigh = Weigher(40)
    norm: Weights = {
        "norm.weight": weigh.array(4) + 1,
        "norm.bias": weigh.array(4),
        "norm.running_mean": weigh.array(4),
        "norm.running_var": abs(weigh.array(4)) + np.float32(0.5),
        "norm.num_batches_tracked": np.array(3, dtype=np.int64),
    }
    forecaster = weigh.lstm("lstm", 3, 4, 2) | norm | weigh.linear("head", 4, 2)
    decoder = weigh.lstm("encoder", 3, 4) | weigh.lstm("decoder", 1, 4) | weigh.linear("head", 4, 1)
    attention = {"conv.weight": weigh.array(6, 3, 3), "conv.bias": weigh.array(6)}
    attention |= weigh.lstm("lstm", 6, 4, both=True) | weigh.linear("attention", 8, 1) | weigh.linear("head", 8, 3)
    tagger = weigh.embedding("embedding", 5, 4) | weigh.lstm("below", 4, 4, both=True) | weigh.lstm("above", 8, 4)
    stateful = {"h0": weigh.array(2, 1, 4), "c0": weigh.array(2, 1, 4)} | weigh.lstm("lstm", 3, 4, 2)
    stateful |= weigh.linear("head", 4, 2)
    alone = weigh.lstm("lstm", 3, 4) | weigh.lstm("unused", 3, 5)
    three = features(THREE)
    four = features('{name = "a"}, {name = "b"}, {name = "c"}, {name = "d"}')
    write(root, "forecaster", _module(":Forecaster", "regression", three, NAMES), {"1": forecaster})
    write(root, "decoder", _module(":EncoderDecoder", "regression", three, 'names = ["x"]'), {"1": decoder})
    write(
        root,
        "attention",
        _module(":ConvAttention", "classification", three, 'labels = ["p", "q", "r"]'),
        {"1": attention},
    )
    labels = 'labels = ["A", "B", "C", "D", "E"]'
    write(root, "tagger", _module(":Tagger", "tagging", TOKENS, labels), {"1": tagger})
    write(root, "writer", _module(":Tagger", "next_token", TOKENS, ""), {"1": tagger})
    write(root, "stateful", _module(":Stateful", "regression", three, NAMES), {"1": stateful})
    siamese = weigh.lstm("lstm", 2, 4)
    write(root, "siamese", _module(":Siamese", "regression", four, 'names = ["x"]'), {"1": siamese})
    write(root, "alone", _module(":Alone", "", three, ""), {"1": alone})
    failing = _module("faulty:Faulty", "regression", three, NAMES, 'how = "refuses_long"')
    write(root, "failing", failing, {"1": forecaster})
    write(root, "nowhere", _module("nothing:Faulty", "regression", three, NAMES), {"1": forecaster})
    plain(root, "tiny")
    for manifest in SHIPPED.glob("*/model.toml"):
        (root / manifest.parent.name).symlink_to(manifest.parent)


def tensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, always of the same bytes."""
    codes = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "<i8": "I64", "<i4": "I32", "|b1": "BOOL", "|u1": "U8"}
    entries: list[str] = []
    if metadata is not None:
        told = ",".join(f"{_quoted(name)}:{_quoted(text)}" for name, text in metadata.items())
        entries.append(f'"__metadata__":{{{told}}}')
    start = 0
    for name, array in arrays.items():
        stop = start + array.nbytes
        shape = ",".join(map(str, array.shape))
        dtype = codes[array.dtype.str]
        entries.append(f'{_quoted(name)}:{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{start},{stop}]}}')
        start = stop
    head = f"{{{','.join(entries)}}}".encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(array.tobytes() for array in arrays.values())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
