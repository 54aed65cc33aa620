"""`interpret`: what a checkpoint's weights compute, stated by options, verified by a sample, or guessed and said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gatescope.checkpoints.card import arguments
from gatescope.checkpoints.structure.arrange import Arrangement, Arranger, refuse
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.kinds import CRF, Conv1d, Embedding, FoundRecurrent, Linear, Norm, Other, Part
from gatescope.checkpoints.structure.notation import Layer, Unreadable, expand
from gatescope.checkpoints.structure.options import NONE, Options
from gatescope.checkpoints.structure.questions import Asked, questions, telling
from gatescope.checkpoints.structure.readings import LOOKS, Open, Readings, Tokens, core, start_of
from gatescope.checkpoints.structure.search import (
    Evaluator,
    Found,
    Inputs,
    Match,
    Question,
    distinct,
    impossible,
    one_thread,
    search,
)
from gatescope.errors import InvalidInput, Place
from gatescope.names import listed, quoted
from gatescope.pipeline.sample import DEFAULT_TOLERANCE

SHOWN = 6
"""Readings that are named where several fit."""

_MATCHES = 500  # readings that give what the sample expects and are held against each other: the simplest
_USUAL_LAYERS = 12  # of longer chains fewer are looked at: what they take grows with their length
_LEAST = 500  # readings of one arrangement that are looked at, however many arrangements there are


class AmbiguousSample(InvalidInput):
    """Several readings give what a sample expects; they differ on `inputs`, which are as the training took them."""

    def __init__(self, message: str, inputs: np.ndarray | None) -> None:
        super().__init__(f"sample: {message}", (Place(("sample",), message),))
        self.inputs = inputs


@dataclass(frozen=True)
class Interpretation:
    """The layers that are served."""

    layers: tuple[Layer, ...]
    arrangement: Arrangement
    predicts: bool
    """Whether the last layer's values are a prediction; else the recurrent layers alone are served."""
    match: Match | None = None
    """The reading that gives the sample's expected values; None where there is no sample, or none does."""
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    not_computed: tuple[tuple[str, str, str], ...] = ()
    """Name, kind and place of what is missing on the way to a prediction."""

    @property
    def takes_own_inputs(self) -> bool:
        """Whether the recurrent layer is given its own inputs, as what stands before it is not computed."""
        return any(place == "before" for _, _, place in self.not_computed)

    @property
    def own_width(self) -> int | None:
        """The width of the recurrent layer's inputs, where it is given its own."""
        return self.arrangement.input_width if self.takes_own_inputs else None

    @property
    def stated(self) -> dict[str, list[Layer]]:
        """[[layers]] of the manifest."""
        return {"layers": list(self.layers)}

    @property
    def description(self) -> str:
        """One line for the manifest of a model of which nobody has said what it does."""
        recurrent = ", ".join(arguments(lstm.spec) for lstm in self.arrangement.lstms)
        names = [layer["name"] for layer in self.layers]
        return f"{recurrent}: {' → '.join(names)}" if len(names) > 1 else recurrent

    @property
    def last(self) -> str | None:
        """The function of the last layer, or that it is a CRF."""
        layer = self.layers[-1]
        return "crf" if layer["type"] == "crf" else layer.get("function")

    @property
    def is_verified(self) -> bool:
        """Whether the sample's expected values are given."""
        return self.match is not None


def interpret(contents: Contents, weights: Mapping[str, Tensor], options: Options, asked: Asked) -> Interpretation:
    """The layers from the inputs to the prediction.

    Args:
        contents: of the checkpoint.
        weights: of the checkpoint.
        options: what is stated.
        asked: what the model is asked with: tokens or features, the scaler, and the sample where there is one.

    Raises:
        InvalidInput: an option names what is not there or does not fit, or must be given.
        AmbiguousSample: several readings give what the sample expects.
        WeightsError: there is no recurrent layer.
    """
    reader = _Reader(contents, weights, options, asked)
    return reader.stated() if options.layers else reader.guessed()


@dataclass
class _Reader:
    contents: Contents
    weights: Mapping[str, Tensor]
    options: Options
    asked: Asked

    def stated(self) -> Interpretation:
        """The layers as `--layers` has them; what it does not name is left aside."""
        named = self._parts_of(self.options.layers)
        lstms = tuple(part for part in named if isinstance(part, FoundRecurrent))
        if not lstms:
            refuse("layers", "names no recurrent layer of the checkpoint")
        embedding = next((part for part in named if isinstance(part, Embedding)), None)
        learned, states = Arranger(self.contents, self.options).learned(lstms)
        arrangement = Arrangement(embedding, (), lstms, "stacked", (), learned=learned)
        layers = self._expanded(self.options.layers, arrangement)
        used = {*named, *states}
        left = [name for part in self.contents.parts if part not in used for name in names_of(part)]
        notes = [f"Left out, as --layers does not name it: {listed(left)}."] if left else []
        made = Interpretation(tuple(layers), arrangement, True, None, tuple(notes), tuple(left))
        if self.asked.sample is None:
            return made
        self._check_state(lstms)
        found = self._searched([self.options.layers], arrangement)
        if not found.matches:
            refuse("layers", f"these layers do not give what the sample expects: {_distance(found, self._tolerance)}")
        return self._with(made, found.matches[0])

    def guessed(self) -> Interpretation:
        """The layers that the names and shapes of the weights leave open, held against the sample."""
        arrangements = Arranger(self.contents, self.options).arrangements()
        if self.options.head == (NONE,):
            arrangements = [replace(each, behind=(), left=_only_before(each.left)) for each in arrangements[:1]]
        first = arrangements[0]
        if self.asked.sample is not None and first.is_complete:
            return self._verified(arrangements)
        self._refuse_open_joins(arrangements)
        if not first.is_complete:
            notes = () if self.asked.sample is None else ("The sample is not used: parts of the model have no place.",)
            return self._recurrent_alone(first, first.left, notes)
        if norms := [part for part in first.recurrent if isinstance(part, Norm) and _is_undetermined(part)]:
            refuse(
                "layers",
                f"the weights of {listed([norm.path for norm in norms])} do not tell of which type they are: state "
                f"--layers {shown(core(first))}, each norm with its type (PATH={'|'.join(norms[0].types)}), or give a "
                "--sample",
            )
        if unsure := _unsure(arrangements):
            return self._recurrent_alone(first, unsure, ())
        if moved := self._out_of_order(first):
            names = listed([name for part, _ in moved for name in names_of(part)])
            note = f"The file has {names} on the other side of the LSTM from where its width fits."
            return self._recurrent_alone(first, moved, (note,))
        if not first.behind:
            return self._recurrent_alone(first, (), ())
        chain = Readings(first, self.options, self._open(first, functions=False)).simplest(1)[0]
        return self._made(chain, first)

    def _out_of_order(self, arrangement: Arrangement) -> tuple[tuple[Part, str], ...]:
        """The parts that the file has elsewhere: that they fit there alone proves little."""
        lstms = [part for part in self.contents.parts if part in arrangement.lstms]
        first, last = arrangement.lstms[0], lstms[-1]
        late = [part for part in arrangement.before if not self.contents.may_precede(part, first)]
        early = [part for part in arrangement.behind if not self.contents.may_follow(part, last)]
        if self.options.head:  # is stated, wherever the file has it
            early = [part for part in early if not isinstance(part, Linear)]
        return (*((part, "before") for part in late), *((part, "behind") for part in early))

    def _verified(self, arrangements: Sequence[Arrangement]) -> Interpretation:
        self._check_state(arrangements[0].lstms)
        found, owner = self._search_all(arrangements)
        if not found.matches and self.contents.ordered:
            found, owner = self._search_all(Arranger(self.contents, self.options).arrangements(in_any_order=True))
        if not found.matches:
            said = _distance(found, self._tolerance)
            note = f"No prediction: of {found.tried:,} readings none gives what the sample expects; {said}."
            self._refuse_open_joins(arrangements, note)
            first = arrangements[0]
            left = (*((part, "before") for part in first.before), *((part, "behind") for part in first.behind))
            return self._recurrent_alone(first, left, (note,))
        kinds = self._kinds(found.matches, owner)
        match = kinds[0]
        arrangement = owner[match.tokens]
        return self._with(self._made(match.tokens, arrangement), match)

    def _with(self, made: Interpretation, match: Match) -> Interpretation:
        """What a sample has verified."""
        said = f"{shown(match.tokens)} gives what the sample expects, to {match.error:.2g} of its largest value"
        return replace(made, match=match, notes=(f"Verified: {said}.", *made.notes, *self._of_question(match)))

    def _kinds(self, matches: Sequence[Match], owner: Mapping[Tokens, Arrangement]) -> list[Match]:
        """The one reading that fits, or what is the same as it; raises `AmbiguousSample` where several differ."""
        if len(matches) == 1:
            return [*matches]
        question = matches[0].question
        same_question = [match for match in matches if match.question is question][:_MATCHES]
        arrangement = owner[matches[0].tokens]
        others = (
            (self._evaluator(inputs, arrangement, torch.float64), given)
            for inputs, given in telling(self.asked, question)
        )
        with one_thread():
            kinds, inputs = distinct(same_question, others)
        if len(kinds) > 1:
            named = "; ".join(shown(match.tokens) for match in kinds[:SHOWN])
            more = f" and {len(kinds) - SHOWN} more" if len(kinds) > SHOWN else ""
            raise AmbiguousSample(
                f"{len(kinds)} readings give what it expects: {named}{more}; state one with --layers, or give a sample "
                "that tells them apart",
                inputs,
            )
        return kinds

    def _search_all(self, arrangements: Sequence[Arrangement]) -> tuple[Found, dict[Tokens, Arrangement]]:
        """What all arrangements' readings give, and whose they are."""
        owner: dict[Tokens, Arrangement] = {}
        whole = Found()
        every = [(each, Readings(each, self.options, self._open(each))) for each in arrangements]
        for most in LOOKS:
            for arrangement, readings in every:
                share = most // (len(arrangements) * max(1, len(self._fitting(arrangement))))
                share = max(_LEAST, share * _USUAL_LAYERS // max(_USUAL_LAYERS, readings.length))
                found = self._look(readings.simplest(share), arrangement, owner, whole)
                for match in found.matches[:SHOWN]:  # what is as simple is known, but not what is less so
                    self._look(readings.near(match.tokens), arrangement, owner, whole)
            if whole.matches:
                break
        return whole, owner

    def _look(
        self, chains: Sequence[Tokens], arrangement: Arrangement, owner: dict[Tokens, Arrangement], whole: Found
    ) -> Found:
        """What those chains give that nobody has looked at yet; it is put to the whole."""
        chains = [chain for chain in chains if chain not in owner]
        owner |= dict.fromkeys(chains, arrangement)
        found = self._searched(chains, arrangement)
        whole.matches += found.matches
        whole.tried += found.tried
        if found.nearest and (whole.nearest is None or found.nearest.error < whole.nearest.error):
            whole.nearest = found.nearest
        return found

    def _searched(self, chains: Sequence[Tokens], arrangement: Arrangement) -> Found:
        """What chains of one arrangement give."""
        evaluators = [(each, self._evaluator(each.inputs, arrangement)) for each in self._fitting(arrangement)]
        return search(chains, evaluators, self._tolerance)

    @property
    def _tolerance(self) -> float:
        """How far a prediction may be from the sample."""
        return DEFAULT_TOLERANCE if self.asked.sample is None else self.asked.sample.tolerance

    @cached_property
    def _questions(self) -> list[Question]:
        """The ways to take the sample."""
        return questions(self.asked)

    def _fitting(self, arrangement: Arrangement) -> list[Question]:
        """The ways to take the sample in which it expects as many values as the arrangement gives; else all."""
        width = width_of(arrangement)
        fitting = [
            each
            for each in self._questions
            if any(each.rows(width, per_step=per_step) is not None for per_step in (True, False))
        ]
        return fitting or self._questions

    def _check_state(self, lstms: Sequence[FoundRecurrent]) -> None:
        """Refuse a sample whose states are not those of the LSTM."""
        states = None if self.asked.sample is None else self.asked.sample.state
        if states is None:
            return
        if len(lstms) > 1:
            refuse("sample", f"it begins with a state, but there are {len(lstms)} LSTMs: give one that begins at zero")
        shapes = lstms[0].spec.state_shapes(1)
        if states.keys() != shapes.keys():
            refuse("sample", f"it begins with {', '.join(states)}, but {lstms[0]} has {', '.join(shapes)}")
        for name, wanted in shapes.items():
            given = states[name].shape
            if len(given) != len(wanted) or (given[0], given[2]) != (wanted[0], wanted[2]):
                shape = f"({wanted[0]}, batch, {wanted[2]})"
                refuse("sample", f"its {name} has shape {list(given)}, but that of {lstms[0]} has {shape}")

    def _evaluator(self, inputs: Inputs, arrangement: Arrangement, dtype: torch.dtype = torch.float32) -> Evaluator:
        parts = {part.path: part for part in self.contents.parts if not isinstance(part, Other)}
        return Evaluator(self.weights, parts, arrangement.learned, inputs, dtype)

    def _open(self, arrangement: Arrangement, *, functions: bool = True) -> Open:
        per_step: bool | None = {
            "tagging": True,
            "next_token": True,
            "classification": False,
        }.get(self.options.task or "")
        if self.asked.sample is not None and functions:
            per_step = self._expects_steps(width_of(arrangement))
            unfit = impossible(self._questions, self._tolerance)
            return Open(per_step, self.asked.reads_tokens, bool(self.options.static), functions, unfit)
        if self.options.steps is None and per_step is None:
            per_step = not self._is_classification(arrangement)
        return Open(per_step, self.asked.reads_tokens, bool(self.options.static), functions)

    def _expects_steps(self, width: int) -> bool | None:
        """Whether the sample expects so many values for each time step; None where its shape does not say."""
        fitting = {
            per_step
            for question in self._questions
            for per_step in (True, False)
            if question.rows(width, per_step=per_step) is not None
        }
        return fitting.pop() if len(fitting) == 1 else None

    def _is_classification(self, arrangement: Arrangement) -> bool:
        """Whether labels are given one for each sequence, as far as the parts show."""
        options, width = self.options, width_of(arrangement)
        if any(isinstance(part, CRF) for part in arrangement.behind) or options.steps == "all":
            return False
        if options.labels or options.task in {"binary", "multi_label"}:
            return True
        if options.outputs or options.task is not None or not self.asked.reads_tokens:
            return False
        return width > 1 and width != self.asked.vocabulary_size

    def _made(self, tokens: Tokens, arrangement: Arrangement) -> Interpretation:
        layers = self._expanded(tokens, arrangement)
        notes = [*_of_cells(arrangement, has_match=self.asked.sample is not None)]
        if self.asked.sample is None:
            notes.append(f"Layers: {shown(tokens)} (--layers to state others, --sample FILE to verify them).")
        is_bare = tokens == (*start_of(arrangement, self._open(arrangement)), *core(arrangement))
        return Interpretation(
            tuple(layers),
            arrangement,
            not is_bare or len(arrangement.lstms) > 1,  # of several, the last one's values are no layer's own output
            None,
            tuple(notes),
            self.options.ignore,
        )

    def _recurrent_alone(
        self, arrangement: Arrangement, left: Sequence[tuple[Part, str]], notes: Sequence[str]
    ) -> Interpretation:
        """The recurrent layers without a prediction, behind what stands before them if that is complete."""
        missing = tuple((name, _kind(part), place) for part, place in left for name in names_of(part))
        is_bare = any(place == "before" for _, _, place in missing)
        join_is_open = len(arrangement.lstms) > 1 and self.options.join is None and not self.options.prefix
        tokens = core(arrangement)
        if not is_bare:
            tokens = (*start_of(arrangement, self._open(arrangement, functions=False)), *tokens)
        said = [*_of_cells(arrangement, has_match=False), *notes]
        for place in ("before", "behind"):
            names = [name for name, _, where in missing if where == place]
            if names:
                said.append(_not_computed(names, place, has_sample=self.asked.sample is not None))
        if not missing and not notes:
            reason = "the head is left out" if self.options.head == (NONE,) else "no layer stands behind the LSTM"
            said.append(f"No head: {reason}. The LSTM alone is served.")
        if join_is_open and not is_bare:
            said.append(f"Recurrent layers: {shown(core(arrangement))}.")
        layers = self._expanded(tokens, arrangement)
        return Interpretation(tuple(layers), arrangement, False, None, tuple(said), self.options.ignore, missing)

    def _refuse_open_joins(self, arrangements: Sequence[Arrangement], note: str = "") -> None:
        """Refuse recurrent layers of which neither the widths nor a sample tell how they are joined.

        Args:
            arrangements: of the parts.
            note: what the sample told, where there is one.
        """
        joins = list(dict.fromkeys(each.join for each in arrangements))
        is_stated = self.options.join is not None or self.options.prefix
        if len(joins) > 1 or (note and len(arrangements[0].lstms) > 1 and not is_stated):
            paths = [lstm.path for lstm in arrangements[0].lstms]
            refuse(
                "join",
                f"{note} The checkpoint holds {len(paths)} LSTMs, {listed(paths)}, whose widths do not tell how they "
                f"are joined: state {', '.join(joins)}, name one with --prefix, or give "
                f"{'another' if note else 'a'} --sample".strip(),
            )

    def _expanded(self, tokens: Tokens, arrangement: Arrangement) -> list[Layer]:
        parts = {part.path: part for part in self.contents.parts if not isinstance(part, Other)}
        try:
            return expand(tokens, parts, arrangement.learned)
        except Unreadable as error:
            have = listed([*parts])
            refuse("layers", f"{quoted(error)} is neither a layer of the checkpoint ({have}) nor a function")

    def _parts_of(self, tokens: Tokens) -> list[Part]:
        """The parts that a line names."""
        words = {word for token in tokens for word in token.replace("(", "|").replace(")", "|").split("|")}
        paths = {word.partition("=")[0] for word in words}
        return [part for part in self.contents.parts if (part.path or "(top)") in paths]

    def _of_question(self, match: Match) -> Iterator[str]:
        """How the sample was taken."""
        if match.question.time_first:
            yield "The sample's first axis is time; requests have the batch first."
        if self.asked.scaler is not None:
            inputs = "raw" if match.question.scaled_inputs else "scaled already"
            yield f"The sample's inputs were {inputs}; requests are raw."


def shown(tokens: Tokens) -> str:
    """A line of layers, as `--layers` takes it."""
    return ",".join(tokens)


def names_of(part: Part) -> list[str]:
    """The part's path; of what stands at the top, its weights' names."""
    return [part.path] if part.path or not isinstance(part, Other) else list(part.shapes)


def width_of(arrangement: Arrangement) -> int:
    """How many numbers the last layer gives."""
    for part in reversed(arrangement.behind):
        if isinstance(part, Linear | Conv1d):
            return part.out_features
    return arrangement.output_width


def _kind(part: Part) -> str:
    return str(getattr(part, "kind", "unknown"))


def _only_before(left: Sequence[tuple[Part, str]]) -> tuple[tuple[Part, str], ...]:
    return tuple((part, place) for part, place in left if place == "before")


def _unsure(arrangements: Sequence[Arrangement]) -> tuple[tuple[Part, str], ...]:
    """The parts whose place or type the file does not tell, each with the place that it may have."""
    first = arrangements[0]
    undetermined = [part for part in (*first.before, *first.behind) if _is_undetermined(part)]
    places = [(each.before, each.behind, each.embedding) for each in arrangements]
    moved = {
        part
        for before, behind, _ in places
        for part in (*before, *behind)
        if any(before != other or behind != elsewhere for other, elsewhere, _ in places)
    }
    if any(embedding != first.embedding for _, _, embedding in places) and first.embedding is not None:
        return ((first.embedding, "before"),)
    unsure = [part for part in (*first.before, *first.behind) if part in moved or part in undetermined]
    return tuple((part, "before" if any(part in each.before for each in arrangements) else "behind") for part in unsure)


def _is_undetermined(part: Part) -> bool:
    """Whether the weights do not tell what a part computes: its type, or a convolution's padding and stride."""
    return isinstance(part, Conv1d) or (isinstance(part, Norm) and len(part.types) > 1)


def _not_computed(names: Sequence[str], place: str, *, has_sample: bool) -> str:
    remedy = "state --layers" if has_sample else "give a --sample, state --layers"
    if place == "before":
        return (
            f"Not computed before the LSTM: {listed(names)}. The model takes the LSTM's own inputs, and no prediction: "
            f"{remedy}, or --ignore NAME if nothing depends on it."
        )
    stands = "stands behind the LSTM and is" if len(names) == 1 else "stand behind the LSTM and are"
    return (
        f"No prediction: {listed(names)} {stands} not computed. The LSTM alone is served: {remedy}, or --ignore NAME "
        "if the prediction does not depend on it."
    )


def _of_cells(arrangement: Arrangement, *, has_match: bool) -> Iterator[str]:
    first = arrangement.lstms[0]
    name = first.spec.cell.module.__name__
    if first.kind.endswith("Cell"):
        steps = "stepped from the first time step to the last"
        yield f"{name}: an {first.kind} is read as an nn.{name} of one layer, {steps}."
    if first.spec.cell.nonlinearity is not None and not has_match:
        yield f"{name}: {first.spec.cell.nonlinearity} is assumed, as weights do not show it (--layers PATH=relu, …)."
    for lstm in arrangement.lstms:
        if not lstm.spec.bias:
            yield f"{name}: {lstm} has no biases (bias=False)."


def _distance(found: Found, tolerance: float) -> str:
    if found.nearest is None:
        return "none gives its shape"
    return (
        f"the nearest, {shown(found.nearest.tokens)}, is off by {found.nearest.error:.2g} of the largest value "
        f"(allowed: {tolerance:g})"
    )
