"""`Survey`: what a pickle would make, told from its instructions without making it.

`torch.load(weights_only=True)` runs no code, but it allocates what a file asks for before it looks whether the file has
it, and lets a file hash, copy and nest as it likes. So every instruction is gone through first, on a stack of symbols:
only those that a state dict needs, and of calls those in `calls.py`. What passes costs no more than the file is long.
"""

from __future__ import annotations

import pickletools
from io import BytesIO
from typing import Any

from gatescope.checkpoints.formats import placeholders
from gatescope.checkpoints.formats.names import RESAVE, quoted
from gatescope.checkpoints.formats.pickle_calls import ITEM_BYTES, KEY_BYTES, Made, Named, Storage, is_known, result
from gatescope.errors import CheckpointError

MOST_BYTES = 64 * 2**20
MOST_INSTRUCTIONS = 300_000
MOST_MARKS = 1000

PROTOCOL = 2
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}

LITERALS = {"BINFLOAT", "BININT", "BININT1", "BININT2", "BINUNICODE", "LONG1"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_DICT": "dict", "EMPTY_LIST": "list"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
STEPS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "TUPLE", "MARK", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"}
RISKY_STEPS = {"PROTO", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"}
KNOWN = LITERALS | CONSTANTS.keys() | EMPTY.keys() | TUPLES.keys() | STEPS | RISKY_STEPS | {"STOP"}

FILLED = {"dict", "OrderedDict", "Counter"}

WHOLE_MODULE = (
    "it holds a whole pickled module, which would run code when it is read; save its weights alone: "
    'torch.save(model.state_dict(), "weights.pt")'
)


class Survey:
    """Goes through a pickle; keeps the storages that it declares, and the classes that stand-ins are taken for."""

    def __init__(self, pickled: BytesIO) -> None:
        self.storages: dict[str, Storage] = {}
        self.set_aside: dict[str, None] = {}
        self._pickled = pickled
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def run(self) -> Any:
        """The symbol of what the pickle would make; reads up to its last instruction and no further.

        Raises:
            CheckpointError: it is not whole, or does what reading weights does not need.
        """
        try:
            for _ in range(MOST_INSTRUCTIONS):
                instruction, argument = self._next()
                if instruction == "STOP":
                    return self._stack.pop()
                self._take(instruction, argument)
        except (IndexError, KeyError, TypeError, ValueError):
            raise CheckpointError("its pickle is damaged; copy or save the file again") from None
        raise CheckpointError(f"its pickle has more than {MOST_INSTRUCTIONS} instructions; {RESAVE}")

    def _next(self) -> tuple[str, Any]:
        opcode = OPCODES[self._pickled.read(1).decode("latin-1")]
        if opcode.name == "GLOBAL":
            return opcode.name, f"{self._line()}.{self._line()}"
        if opcode.name not in KNOWN:
            raise CheckpointError(
                f"its pickle has the instruction {opcode.name}, which torch.save does not write; {RESAVE}"
            )
        return opcode.name, None if opcode.arg is None else opcode.arg.reader(self._pickled)

    def _line(self) -> str:
        return self._pickled.readline()[:-1].decode()

    def _take(self, instruction: str, argument: Any) -> None:
        if instruction in LITERALS:
            self._stack.append(argument)
        elif instruction in CONSTANTS:
            self._stack.append(CONSTANTS[instruction])
        elif instruction in EMPTY:
            self._stack.append(Made(EMPTY[instruction]))
        elif instruction in TUPLES:
            self._stack.append(tuple(self._pop(TUPLES[instruction])))
        else:
            getattr(self, f"_{instruction.lower()}")(argument)

    def _pop(self, count: int) -> list[Any]:
        popped = [self._stack.pop() for _ in range(count)]
        return popped[::-1]

    def _proto(self, number: int) -> None:
        if number != PROTOCOL:
            raise CheckpointError(f"it is pickled with protocol {number}; save it with torch.save's own, {PROTOCOL}")

    def _mark(self, _: None) -> None:
        if len(self._marks) == MOST_MARKS:
            raise CheckpointError(f"it is nested more than {MOST_MARKS} levels deep; {RESAVE}")
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _binget(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _binput(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _long_binget, _long_binput = _binget, _binput

    def _tuple(self, _: None) -> None:
        items = tuple(self._since_mark())
        self._stack.append(items)

    def _append(self, _: None) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        self._target({"list"}).items.extend(items)

    def _setitem(self, _: None) -> None:
        self._fill(self._pop(2))

    def _setitems(self, _: None) -> None:
        self._fill(self._since_mark())

    def _fill(self, pairs: list[Any]) -> None:
        keys = pairs[::2]
        if len(pairs) % 2:
            raise IndexError(len(pairs))
        for key in keys:
            # Keys that hash slowly, deeply or all alike would hang the process. Optimizers count their parameters.
            if not isinstance(key, str | None) and (type(key) is not int or key not in range(MOST_INSTRUCTIONS)):
                raise CheckpointError(f"it has a mapping whose keys are neither text nor small numbers; {RESAVE}")
        self._target(FILLED).items.extend(keys)

    def _target(self, kinds: set[str]) -> Made:
        target = self._stack[-1]
        if not isinstance(target, Made) or target.kind not in kinds:
            raise TypeError(target)
        return target

    def _global(self, written: str) -> None:
        name = f"builtins.{written.removeprefix('__builtin__.')}" if written.startswith("__builtin__.") else written
        if not is_known(name):
            self._refuse(name)
        if name in placeholders.OBJECTS or name in placeholders.MAPPINGS:
            self.set_aside[name] = None
        self._stack.append(Named(name))

    def _refuse(self, name: str) -> None:
        if b"ctorch.nn.modules." in self._pickled.getvalue():
            raise CheckpointError(WHOLE_MODULE)
        if name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            raise CheckpointError(f"it holds tensors that are not plain and dense ({quoted(name)}); save them as such")
        raise CheckpointError(f"its pickle names {quoted(name)}, which could run code and is not read; {RESAVE}")

    def _reduce(self, _: None) -> None:
        called, arguments = self._pop(2)
        made = result(called, arguments)
        self._charge(made.copied)
        self._stack.append(made)

    def _charge(self, copied: int) -> None:
        self._copied += copied
        if self._copied > MOST_BYTES:
            raise CheckpointError(f"its pickle copies more than {MOST_BYTES} bytes; {RESAVE}")

    def _newobj(self, _: None) -> None:
        called, arguments = self._pop(2)
        if not isinstance(called, Named) or called.name not in placeholders.OBJECTS | placeholders.MAPPINGS:
            raise TypeError(called)
        self._stack.append(result(called, arguments))

    def _build(self, _: None) -> None:
        state = self._pop(1)[0]
        target = self._target({"OrderedDict", "stand-in"})
        if target.kind == "OrderedDict":
            if not isinstance(state, Made) or state.kind != "dict":
                raise TypeError(state)
            self._charge(len(state.items) * KEY_BYTES)

    def _binpersid(self, _: None) -> None:
        match self._pop(1)[0]:
            case ("module", *_):
                raise CheckpointError(WHOLE_MODULE)
            case ("storage", Named(kind), str(key), str(), int(numel), *rest) if rest in ([], [None]):
                storage = Storage(kind, numel)
            case other:
                raise TypeError(other)
        if kind not in ITEM_BYTES or numel < 0 or self.storages.setdefault(key, storage) != storage:
            raise TypeError(storage)
        self._stack.append(storage)
