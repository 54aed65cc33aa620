"""Findings and their tests in plain sentences, made from the figures alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gatescope.reporting.finding import LEVEL, Family, Finding, Kind, Place
from gatescope.reporting.trials import Trial

QUESTIONS: Mapping[Kind, str] = {
    "counts": "Does a unit count?",
    "latches": "Does a unit latch?",
    "remembers": "Does a unit hold an input for an exact number of steps?",
    "slow": "Does a unit remember unusually long?",
    "saturated": "Is a gate nearly always shut or open?",
    "follows": "Does a unit follow a series?",
    "tells_apart": "Does a unit tell classes of steps apart?",
    "swings": "Does a unit swing?",
    "needed": "Does the prediction need one unit far more than others?",
}

TELLING = 95
"""Percent of other units that an edit must exceed to be told as telling."""

_FEWEST_DIGITS, _MOST_DIGITS = 1e-3, 1e5


def number(value: float) -> str:
    """Three digits, as a reader wants them."""
    if value != value:  # noqa: PLR0124 - not a number
        return "unknown"
    size = abs(value)
    if size >= _MOST_DIGITS or 0 < size < _FEWEST_DIGITS:
        return f"{value:.2g}".replace("-", "−")
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2  # noqa: PLR2004 - three digits
    if 0 < size < 0.1:  # noqa: PLR2004 - the same
        decimals = 3
    return f"{value:,.{decimals}f}".replace("-", "−")


def share(value: float) -> str:
    """In percent."""
    percent = 100 * value
    if 99.5 <= percent < 100:  # noqa: PLR2004 - not all
        return f"{percent:.1f} %"
    return f"{percent:.0f} %" if percent >= 1 or percent == 0 else f"{percent:.1g} %"


def gate(value: float) -> str:
    """A gate, with more digits near its ends."""
    return f"{value:.4f}" if value > 0.99 or value < 0.01 else f"{value:.2f}"  # noqa: PLR2004 - its ends


def words(name: str) -> str:
    """The name of a signal, as people write it."""
    return name.replace("_", " ")


def unit(place: Place, *, is_lone: bool) -> str:
    """What a unit is called; of a network with one layer and direction by its number alone."""
    return f"unit {place.unit}" if is_lone else f"unit {place.unit} of layer {place.layer}, {place.direction}"


def sentence(found: Finding, *, is_lone: bool) -> str:
    """What was found of a unit; where it does not stand out, that the strongest unit does not."""
    name = unit(found.place, is_lone=is_lone)
    text = _SENTENCES[found.kind](name, found.figures)
    if found.stands_out:
        return _capital(text)
    return f"{_NOTHING[found.kind]} The strongest: {text}"


def question(family: Family) -> str:
    """What was looked for."""
    asked = QUESTIONS[family.kind]
    return f"{asked[:-1]} {family.source}?" if family.source else asked


def nothing(family: Family) -> str:
    """What is said of a family without a finding: why nothing could be told, or that there is nothing."""
    return family.note or _NOTHING[family.kind]


def certainty(found: Finding) -> str:
    """How sure a finding is."""
    if found.p is None:
        return "By definition: the figures lie within its bounds."
    least = "p < 0.0001" if found.p < 1e-4 else f"p = {found.p:.2g}"  # noqa: PLR2004 - as said
    return f"{least} for the whole report; {LEVEL:g} is asked for."


def tested(place: Place, trials: Sequence[Trial], *, is_lone: bool, what: str) -> str:
    """What the tests of a unit show, in a sentence or two."""
    if not trials:
        return "No edit of this unit can be tried."
    name = unit(place, is_lone=is_lone)
    telling = max(trials, key=lambda trial: (trial.percentile or 0, trial.effect))
    told = f"{_capital(edit(telling, name))} changes {what} by {number(telling.effect)} of its deviation"
    if telling.changed is not None:
        told += f", and the label at {share(telling.changed)} of steps"
    if telling.error is not None:
        what, written = ("share of wrong labels", share) if telling.changed is not None else ("error", number)
        told += f", and the {what} from {written(telling.error[0])} to {written(telling.error[1])}"
    if telling.usual is None or telling.percentile is None:
        return f"{told}. There is no other unit to compare it with."
    told += f"; the same edit of {telling.units} other units of its layer by {number(telling.usual)} (median)."
    if telling.percentile < TELLING:
        return f"{told} Nothing shows that the prediction needs {name} more than others."
    return f"{told} Its effect is larger than that of {telling.percentile:.0f} % of them."


def is_known(of: Mapping[str, float | None]) -> bool:
    """Whether anything was compared."""
    return of.get("accuracy") is not None or of.get("rmse") is not None


def how_well(name: str, of: Mapping[str, float | None]) -> str:
    """How well an output, or a label, is predicted, beside a naive answer."""
    known = {key: value for key, value in of.items() if value is not None}
    if "accuracy" in known:
        told = (
            f"The {name} is right in {share(known['accuracy'])} of {known['count']:,.0f} cases; the most frequent one "
            f"alone would be in {share(known['majority'])}. Macro F1 is {number(known['macro_f1'])}."
        )
        if "log_loss" not in known:
            return told
        losses = number(known["log_loss"]), number(known["baseline_log_loss"])
        return f"{told} Log loss is {losses[0]}; that of the frequencies alone {losses[1]}."
    told = f"{name} is predicted with a root mean square error of {number(known['rmse'])}"
    if "nse" not in known:
        return f"{told}."
    return f"{told}; NSE is {number(known['nse'])}, where the mean of what was measured has 0."


def edit(trial: Trial, name: str = "") -> str:
    """What was done to a unit; its name where that is not clear."""
    of, to = f" of {name}" if name else "", trial.edit.to
    if trial.edit.signal == "hidden_state":
        return f"silencing {name or 'it'} (its hidden state at its mean)"
    return f"clamping the {words(trial.edit.signal)}{of} to {'its mean' if to is None else f'{to:g}'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _counts(name: str, of: Mapping[str, Any]) -> str:
    at = "; ".join(f"{_signed(mean)} at {token}" for token, (mean, _) in of["changes"].items())
    kept = f" Its gate keeps {gate(of['gate_mean'])} of the state at a step, on average." if "gate_mean" in of else ""
    return (
        f"{name} counts: its state moves in steps of {number(of['step'])} (deviation from that: "
        f"{share(of['error'])}), between {number(of['lowest'])} and {number(of['highest'])}"
        + (f": {at}." if at else ".")
        + kept
    )


def _signed(value: float) -> str:
    rounded = round(value, 2)
    return "0" if rounded == 0 else f"{rounded:+.2f}".replace("-", "−")


def _latches(name: str, of: Mapping[str, Any]) -> str:
    return (
        f"{name} latches: what is written at {of['input']} is kept. It opens there ({gate(of['open'])}, "
        f"{gate(of['shut'])} elsewhere), at {of['steps']:,} steps; in between it keeps {gate(of['gate_mean'])} of its "
        f"state at a step. Behind such a step the state is {number(of['written'])} on average."
    )


def _remembers(name: str, of: Mapping[str, Any]) -> str:
    steps = f"{of['steps']} step{'s' * (of['steps'] != 1)}"
    return (
        f"{name} holds {of['input']} for exactly {steps}: rank correlation {number(of['r'])} at that lag, "
        f"{number(of['r_other'])} at most at any other."
    )


def _slow(name: str, of: Mapping[str, Any]) -> str:
    return (
        f"{name} remembers for τ = {number(of['timescale'])} steps (half-life {number(of['half_life'])}): its "
        f"{words(of['gate'])} is {gate(of['gate_mean'])} ± {number(of['gate_deviation'])}. The median unit remembers "
        f"for {number(of['median_timescale'])}; the slowest of a network with the same typical weights in no order for "
        f"{number(of['control'])}."
    )


def _saturated(name: str, of: Mapping[str, Any]) -> str:
    side = "below 0.1" if of["side"] == "shut" else "above 0.9"
    return (
        f"the {words(of['gate'])} of {name} is {side} at {share(of['share'])} of steps ({gate(of['gate_mean'])} on "
        f"average). The most saturated gate of a network with the same typical weights in no order: "
        f"{share(of['control'])}."
    )


def _follows(name: str, of: Mapping[str, Any]) -> str:
    lag = of["lag"]
    when = "" if lag == 0 else f", {abs(lag)} step{'s' * (abs(lag) != 1)} {'behind' if lag > 0 else 'ahead of'} it"
    beyond = ""
    if "beyond_inputs" in of:
        beyond = f" Beyond what the inputs of the same step tell: r = {number(of['beyond_inputs'])}."
    return f"{name} follows {of['series']}: r = {number(of['r'])}{when}.{beyond}{_control(of)}"


def _tells_apart(name: str, of: Mapping[str, Any]) -> str:
    side = "higher" if of["inside"] > of["outside"] else "lower"
    return (
        f"the state of {name} is {side} at {of['series']} ({number(of['inside'])} on average of {of['steps']:,} steps, "
        f"{number(of['outside'])} elsewhere): AUC {number(of['auc'])}.{_control(of)}"
    )


def _control(of: Mapping[str, Any]) -> str:
    if "control" not in of:
        return ""
    return f" The best unit of networks with the same typical weights in no order: |r| = {number(of['control'])}."


def _swings(name: str, of: Mapping[str, Any]) -> str:
    also = " An input has it, too." if of["in_inputs"] else " No input has it."
    return f"a period of {number(of['period'])} steps has {share(of['share'])} of the variance of {name}.{also}"


def _needed(name: str, of: Mapping[str, Any]) -> str:
    error = f" The error grows by {number(of['error_change'])}." if of.get("error_change") is not None else ""
    return (
        f"{name}, silenced (its hidden state at its mean), changes the prediction by {number(of['effect'])} of its "
        f"deviation; the median unit of its layer by {number(of['median_effect'])}.{error}"
    )


_SENTENCES: Mapping[Kind, Callable[[str, Mapping[str, Any]], str]] = {
    "counts": _counts,
    "latches": _latches,
    "remembers": _remembers,
    "slow": _slow,
    "saturated": _saturated,
    "follows": _follows,
    "tells_apart": _tells_apart,
    "swings": _swings,
    "needed": _needed,
}

_NOTHING: Mapping[Kind, str] = {
    "counts": "No unit counts.",
    "latches": "No unit latches.",
    "remembers": "No unit holds an input for an exact number of steps.",
    "slow": "No unit remembers longer than chance explains.",
    "saturated": "No gate is saturated more than chance explains.",
    "follows": "No unit follows a series more than chance explains.",
    "tells_apart": "No unit tells classes apart more than chance explains.",
    "swings": "No unit swings.",
    "needed": "No unit is needed far more than the others.",
}
