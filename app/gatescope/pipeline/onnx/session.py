"""`session`: an ONNX model ready to run in ONNX Runtime, on the CPU, in bounded memory."""

from __future__ import annotations

from functools import cache

import onnx
import onnxruntime
import torch

from gatescope.errors import CheckpointError

MOST_MEMORY_BYTES = 4 * 2**30
"""Of all models and runs together: a graph can ask for any amount of memory, whatever it is given."""

_SAME_AS_REQUESTED = 1
_FATAL = 4

RUN_ERRORS: tuple[type[Exception], ...] = (
    onnxruntime.capi.onnxruntime_pybind11_state.EPFail,
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
    MemoryError,
    RuntimeError,
)
"""What ONNX Runtime raises for a graph that it cannot load or run."""


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of this model; it may be run by several threads at once.

    Raises:
        CheckpointError: ONNX Runtime refuses the model.
    """
    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else its threads go on for a while
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except RUN_ERRORS as error:
        raise CheckpointError(f"ONNX Runtime refuses it: {said(error)}") from None


@cache
def _bound_memory() -> None:
    """Once a process: one arena for all sessions, which hands out no more than this."""
    arena = onnxruntime.OrtArenaCfg({"max_mem": MOST_MEMORY_BYTES, "arena_extend_strategy": _SAME_AS_REQUESTED})
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, arena)


def said(error: Exception) -> str:
    """The first line of an error of ONNX Runtime, without what is about its own source."""
    line = str(error).strip().partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
    return line.rpartition("Status Message: ")[2].rpartition("onnxruntime::")[2][:300] or type(error).__name__
