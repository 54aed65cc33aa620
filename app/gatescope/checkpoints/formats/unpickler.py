"""`Unpickler`: reads pickles of protocols 2 to 5, and imports and calls nothing of what they name.

Every instruction is bounded by the bytes that stand in the file: nothing is allocated because a number says so, nothing
is hashed but text (`plain.py`), and containers and copies are counted. Classes and functions stay names (`calls.py`).
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from gatescope.checkpoints.formats.calls import call, named
from gatescope.checkpoints.formats.placeholders import Global, Placeholder
from gatescope.checkpoints.formats.plain import NAMESPACE, Array, ArrayType, Entries, Items
from gatescope.errors import CheckpointError
from gatescope.names import RESAVE

MOST_BYTES = 64 * 2**20
"""Of a pickle, and of what its instructions take in memory beside what stands in it: containers, objects and copies."""
CONTAINER_BYTES = 200
"""About what an empty container or an object takes."""
MOST_INSTRUCTIONS = 1_000_000
"""About one second of them; a vocabulary of 300,000 words takes 900,000."""
MOST_MARKS = 1000
MOST_INTEGER_BYTES = 255

PROTOCOLS = range(2, 6)
OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
STOP = ord(".")

Persistent = Callable[[Any], Any]
"""What stands for an object that is kept outside the pickle, by its id in the pickle."""

_SHORT = struct.Struct("<H")
_INT = struct.Struct("<i")
_UINT = struct.Struct("<I")
_LONG = struct.Struct("<Q")
_DOUBLE = struct.Struct(">d")


class Unpickler:
    """Goes once through the instructions of a pickle; `position` is where it stands in the bytes."""

    def __init__(self, pickled: bytes, persistent: Persistent, position: int = 0) -> None:
        self.position = position
        self._pickled = pickled
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: list[Any] = []
        self._taken = 0

    def load(self) -> Any:
        """What was pickled; reads up to the last instruction and no further.

        Raises:
            CheckpointError: it is not whole, or asks for more than reading weights needs.
        """
        try:
            for _ in range(MOST_INSTRUCTIONS):
                code = self._byte()
                if code == STOP:
                    return self._stack.pop()
                STEPS.get(code, _refuse)(self)
        except (IndexError, KeyError, TypeError, ValueError, struct.error):
            raise CheckpointError("its pickle is damaged; copy or save the file again") from None
        raise CheckpointError(f"its pickle has more than {MOST_INSTRUCTIONS} instructions; {RESAVE}")

    # Reading ----------------------------------------------------------------------------------------------------------

    def _byte(self) -> int:
        value = self._pickled[self.position]
        self.position += 1
        return value

    def _bytes(self, length: int) -> bytes:
        start, self.position = self.position, self.position + length
        if self.position > len(self._pickled):
            raise ValueError(length)
        return self._pickled[start : self.position]

    def _number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self._pickled, self.position)
        self.position += form.size
        return value

    def _line(self) -> str:
        end = self._pickled.index(b"\n", self.position)
        line = self._bytes(end - self.position).decode()
        self.position += 1
        return line

    def _spend(self, taken: int) -> None:
        self._taken += taken
        if self._taken > MOST_BYTES:
            raise CheckpointError(f"its pickle makes objects of more than {MOST_BYTES} bytes; {RESAVE}")

    # Stack and memo ---------------------------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop_two(self) -> tuple[Any, Any]:
        second = self._stack.pop()
        return self._stack.pop(), second

    def _do_mark(self) -> None:
        if len(self._marks) == MOST_MARKS:
            raise CheckpointError(f"it is nested more than {MOST_MARKS} levels deep; {RESAVE}")
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _do_pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _do_pop_mark(self) -> None:
        self._since_mark()

    def _do_dup(self) -> None:
        self._push(self._stack[-1])

    def _get(self, index: int) -> None:
        value = self._memo[index]
        if value is UNSET:
            raise KeyError(index)
        self._push(value)

    def _put(self, index: int) -> None:
        if index >= MOST_INSTRUCTIONS:  # each instruction numbers one object at most
            raise ValueError(index)
        if index >= len(self._memo):
            self._memo.extend([UNSET] * (index + 1 - len(self._memo)))
        self._memo[index] = self._stack[-1]

    def _do_binget(self) -> None:
        self._get(self._byte())

    def _do_long_binget(self) -> None:
        self._get(self._number(_UINT))

    def _do_binput(self) -> None:
        self._put(self._byte())

    def _do_long_binput(self) -> None:
        self._put(self._number(_UINT))

    def _do_memoize(self) -> None:
        self._put(len(self._memo))

    # The pickle itself ------------------------------------------------------------------------------------------------

    def _do_proto(self) -> None:
        number = self._byte()
        if number not in PROTOCOLS:
            raise CheckpointError(f"it is pickled with protocol {number}; 2 to 5 are read, and 2 is torch.save's own")

    def _do_frame(self) -> None:
        if self._number(_LONG) > len(self._pickled) - self.position:
            raise ValueError(self.position)

    # Plain values -----------------------------------------------------------------------------------------------------

    def _do_none(self) -> None:
        self._push(None)

    def _do_newtrue(self) -> None:
        self._push(True)

    def _do_newfalse(self) -> None:
        self._push(False)

    def _do_binint(self) -> None:
        self._push(self._number(_INT))

    def _do_binint1(self) -> None:
        self._push(self._byte())

    def _do_binint2(self) -> None:
        self._push(self._number(_SHORT))

    def _do_long1(self) -> None:
        self._push(int.from_bytes(self._bytes(self._byte()), "little", signed=True))

    def _do_long4(self) -> None:
        content = self._bytes(self._number(_UINT))
        is_short = len(content) <= MOST_INTEGER_BYTES
        self._push(int.from_bytes(content, "little", signed=True) if is_short else Placeholder("builtins.int"))

    def _do_binfloat(self) -> None:
        self._push(self._number(_DOUBLE))

    def _text(self, length: int) -> None:
        self._push(self._bytes(length).decode("utf-8", "surrogatepass"))

    def _do_short_binunicode(self) -> None:
        self._text(self._byte())

    def _do_binunicode(self) -> None:
        self._text(self._number(_UINT))

    def _do_binunicode8(self) -> None:
        self._text(self._number(_LONG))

    def _old_text(self, length: int) -> None:
        """The `str` of Python 2: text or bytes."""
        content = self._bytes(length)
        try:
            self._push(content.decode())
        except UnicodeDecodeError:
            self._push(content)

    def _do_short_binstring(self) -> None:
        self._old_text(self._byte())

    def _do_binstring(self) -> None:
        self._old_text(self._number(_UINT))

    def _do_short_binbytes(self) -> None:
        self._push(self._bytes(self._byte()))

    def _do_binbytes(self) -> None:
        self._push(self._bytes(self._number(_UINT)))

    def _do_binbytes8(self) -> None:
        self._push(self._bytes(self._number(_LONG)))

    def _do_bytearray8(self) -> None:
        self._push(bytearray(self._bytes(self._number(_LONG))))

    # Containers -------------------------------------------------------------------------------------------------------

    def _do_empty_tuple(self) -> None:
        self._push(())

    def _do_tuple1(self) -> None:
        self._push((self._stack.pop(),))

    def _do_tuple2(self) -> None:
        self._push(self._pop_two())

    def _do_tuple3(self) -> None:
        third = self._stack.pop()
        self._push((*self._pop_two(), third))

    def _do_tuple(self) -> None:
        items = tuple(self._since_mark())
        self._push(items)

    def _do_empty_list(self) -> None:
        self._spend(CONTAINER_BYTES)
        self._push([])

    def _do_append(self) -> None:
        self._extend([self._stack.pop()])

    def _do_appends(self) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Placeholder):  # of a class of lists, which is not read
            raise TypeError(target)

    def _do_empty_dict(self) -> None:
        self._spend(CONTAINER_BYTES)
        self._push(Entries())

    def _do_setitem(self) -> None:
        self._fill(list(self._pop_two()))

    def _do_setitems(self) -> None:
        self._fill(self._since_mark())

    def _fill(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Entries):
            target.fill(pairs[::2], pairs[1::2])
        elif not isinstance(target, Placeholder):  # of a class of mappings, which is not read
            raise TypeError(target)

    def _do_empty_set(self) -> None:
        self._spend(CONTAINER_BYTES)
        self._push(Items([]))

    def _do_additems(self) -> None:
        items = self._since_mark()
        target = self._stack[-1]
        if isinstance(target, Items):
            target.items.extend(items)
        elif not isinstance(target, Placeholder):
            raise TypeError(target)

    def _do_frozenset(self) -> None:
        items = self._since_mark()
        self._push(Items(items, frozen=True))

    # Classes, functions and objects -----------------------------------------------------------------------------------

    def _do_global(self) -> None:
        module = self._line()
        self._push(named(module, self._line()))

    def _do_stack_global(self) -> None:
        module, name = self._pop_two()
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError(name)
        self._push(named(module, name))

    def _do_reduce(self) -> None:
        called, arguments = self._pop_two()
        self._spend(CONTAINER_BYTES)
        self._push(call(called, arguments, self._spend))

    _do_newobj = _do_reduce

    def _do_newobj_ex(self) -> None:
        arguments, keywords = self._pop_two()
        called = self._stack.pop()
        if not isinstance(called, Global) or not isinstance(keywords, Entries):
            raise TypeError(called)
        has_keywords = bool(keywords.named or keywords.others)
        self._push(Placeholder(called.name) if has_keywords else call(called, arguments, self._spend))

    def _do_build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Placeholder | Array | ArrayType):
            target.build(state)
        elif not isinstance(target, Entries):
            raise TypeError(target)
        elif target.kind == NAMESPACE and isinstance(state, Entries):
            target.share(state)

    def _do_binpersid(self) -> None:
        self._push(self._persistent(self._stack.pop()))


class _Unset:
    """The place of an object that the pickle did not number."""


UNSET = _Unset()


def _refuse(unpickler: Unpickler) -> None:
    name = OPCODES[unpickler._pickled[unpickler.position - 1]]  # noqa: SLF001 - one of its steps
    raise CheckpointError(f"its pickle has the instruction {name}, which torch.save does not write; {RESAVE}")


def _steps() -> dict[int, Callable[[Unpickler], None]]:
    """The method of each instruction, by the instruction's code."""
    methods = {code: vars(Unpickler).get(f"_do_{name.lower()}") for code, name in OPCODES.items()}
    return {code: method for code, method in methods.items() if method is not None}


STEPS = _steps()
