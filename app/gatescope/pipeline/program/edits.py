"""`EditedCalls`: what the calls of a recurrent module return in a run of its program with interventions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from gatescope.capture import Call, RecurrentModule, Replace, over_time
from gatescope.errors import InvalidInput, Place
from gatescope.interventions import EditedRun, Intervention
from gatescope.interventions.intervention import FIELD
from gatescope.state import State


@dataclass(frozen=True)
class EditedCalls:
    """The edits of a batch, of which a program runs some rows at a time.

    Args:
        name: of the recurrent module, for messages.
        module: the recurrent module.
        interventions: stated, of the steps of the module.
        lengths: of the sequences that it runs over.
        raise_if_cancelled: is called now and then, and may raise.
    """

    name: str
    module: RecurrentModule
    interventions: Sequence[Intervention]
    lengths: Sequence[int]
    raise_if_cancelled: Callable[[], None]

    def __call__(self, rows: Sequence[int]) -> Replace | None:
        """What replaces the calls over these rows; None where they are not edited.

        Raises:
            InvalidInput: a cell in a loop gives one hidden state to all who read it, and they are to read several.
        """
        if isinstance(self.module, nn.RNNCellBase):
            for index, each in enumerate(self.interventions):
                if each.scope != "both":
                    message = f"'{self.name}' is a cell in a loop: its next step reads what everybody reads, 'both'"
                    raise InvalidInput.at(Place((FIELD, index, "scope"), message))
        lengths = [self.lengths[row] for row in rows]
        parts = [each.part(rows, self.lengths, 0, max(lengths)) for each in self.interventions]
        edited = [part for part in parts if part is not None]
        if not edited:
            return None
        run = EditedRun(over_time(self.module), edited, lengths, self.raise_if_cancelled)
        return partial(self._replaced, run, max(lengths))

    def check(self, lengths: Tensor) -> None:
        """Refuse a run with edits over other steps than without; raises `InvalidInput`."""
        if lengths.tolist() != list(self.lengths):
            message = f"with these edits '{self.name}' runs over other steps than without: they cannot be compared"
            raise InvalidInput.at(Place((FIELD,), message))

    def _replaced(self, run: EditedRun, longest: int, call: Call) -> tuple[Tensor, State]:
        steps = call.inputs.shape[1]
        if steps < longest and int(call.lengths.min()) < steps:
            message = f"'{self.name}' is called several times over sequences of different lengths: send each one alone"
            raise InvalidInput.at(Place((FIELD,), message))
        return run.call(call.inputs, call.lengths, call.initial_state)
