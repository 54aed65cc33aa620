"""A model card to go on from: what is known of an imported model, and headings for what only its owner knows."""

from __future__ import annotations

from collections.abc import Sequence

from gatescope.pipeline.model import Model
from gatescope.spec import Spec

_CARD = """# {name}

{description}

## What it is

- `{lstm}`, {parameters:,} parameters in all
- takes {takes}
- gives {gives}

Version {version} was imported from a checkpoint. What was found and guessed:

{notes}

## Data

*What was it trained on? From where, from when, under which licence?*

## Quality

*How good is it on data that it has not seen, beside a naive baseline?*

## Limits

*Where does it fail, and what should it not be used for?*

## Licence

*Of the weights.*
"""


def write(model: Model, notes: Sequence[str]) -> str:
    """The card, in Markdown."""
    return _CARD.format(
        name=model.name,
        description=_plain(model.manifest.description),
        lstm=arguments(model.spec),
        parameters=model.parameters,
        takes=_takes(model),
        gives=_gives(model),
        version=model.version,
        notes="\n".join(f"- {_plain(note)}" for note in notes) or "- nothing was guessed",
    )


def _takes(model: Model) -> str:
    if model.vocabulary is None:
        return f"{len(model.manifest.input.features)} features a time step"  # type: ignore[union-attr]
    return f"tokens of a vocabulary of {len(model.vocabulary):,} {model.vocabulary.kind}"


def _gives(model: Model) -> str:
    shape = model.pipeline.prediction_shape(1)
    if shape is None:
        return f"the LSTM's output, {model.spec.output_size} values a time step"
    per = "time step" if len(shape) > 1 else "sequence"
    by = {None: "", "sample": ", verified by a sample of the training code", "graph": ", as the exported graph has it"}
    known = by[None if model.verified is None else model.verified.by]
    return f"a {model.manifest.task} per {per}{known}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>#|" else character for character in text)


def arguments(spec: Spec) -> str:
    """How the LSTM was made, in Python."""
    more = {"num_layers": spec.num_layers, "bias": spec.bias, "bidirectional": spec.bidirectional}
    more["proj_size"] = spec.proj_size
    default = Spec(0, 0)
    said = [f"{name}={value}" for name, value in more.items() if value != getattr(default, name)]
    usual = {"nonlinearity": "tanh"}
    said += [f"{name}={value!r}" for name, value in spec.cell.stated.items() if usual.get(name) != value]
    return f"nn.{spec.cell.module.__name__}({', '.join([str(spec.input_size), str(spec.hidden_size), *said])})"
