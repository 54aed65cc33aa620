"""The protocol's requests. What they say beyond this is passed over: clients add fields and parameters of their own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

_MOST_TENSORS = 32
_MOST_AXES = 8
_LARGEST_ID = 2**64 - 1


def _sequence_id(value: Any) -> int | str:
    if isinstance(value, str) or (type(value) is int and 0 <= value <= _LARGEST_ID):
        return value
    raise ValueError("must be a whole number from 0 to 2^64 - 1, or a string")


SequenceId = Annotated[
    int | str,
    PlainValidator(_sequence_id),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}], "default": 0}),
]


class Schema(BaseModel):
    """The base of all of them: strict types."""

    model_config = ConfigDict(strict=True, frozen=True, use_attribute_docstrings=True)


class TensorParameters(Schema):
    """How an input is sent."""

    binary_data_size: int | None = Field(default=None, ge=0)
    """Its bytes stand behind the JSON, and are so many."""

    shared_memory_region: str | None = None
    """Refused: this server reads none."""


class InputTensor(Schema):
    """One input."""

    name: str
    """One of the model's `inputs`, as its metadata names them."""

    shape: list[Annotated[int, Field(ge=0)]] = Field(max_length=_MOST_AXES)
    """The batch comes first."""

    datatype: str
    """Such as FP32."""

    parameters: TensorParameters | None = None
    """How it is sent."""

    data: Any = None
    """Its elements, flat or nested, where they do not come in binary."""

    @property
    def binary_size(self) -> int | None:
        """How many bytes of it stand behind the JSON; None where it stands in the JSON."""
        return None if self.parameters is None else self.parameters.binary_data_size


class OutputParameters(Schema):
    """How an output is wanted."""

    binary_data: bool | None = None
    """Whether in binary; what the request says of all outputs where this says nothing."""

    shared_memory_region: str | None = None
    """Refused: this server writes none."""

    classification: int | None = None
    """Refused: the `prediction` has the scores."""


class RequestedOutput(Schema):
    """One output."""

    name: str
    """One of the model's `outputs`, as its metadata names them."""

    parameters: OutputParameters | None = None
    """How it is wanted."""


class InferParameters(Schema):
    """What holds for the request as a whole."""

    sequence_id: SequenceId = 0
    """The sequence that this request is a step of; 0 or empty for none."""

    sequence_start: bool = False
    """Whether the sequence begins here."""

    sequence_end: bool = False
    """Whether it ends here."""

    priority: int = Field(default=0, ge=0)
    """Of no effect: requests are answered in the order in which they come."""

    timeout: int = Field(default=0, ge=0)
    """Microseconds until the request is answered 504; 0 leaves it to the server."""

    binary_data_output: bool = False
    """Whether outputs are wanted in binary."""

    columns: str | None = None
    """The names of the last axis of `inputs`, a list in JSON: exactly the model's features, in any order."""

    static_columns: str | None = None
    """The same of `static_inputs`."""

    timestamps: str | None = None
    """When each step is, [batch][time] in JSON: `inputs` may then lack the features that follow from it."""

    horizon: int | None = Field(default=None, ge=1)
    """How many tokens a `next_token` model writes; the prediction has the scores that they are drawn from."""

    sampling: str | None = None
    """How they are drawn, an object in JSON, as in a predict body."""


class InferRequest(Schema):
    """Tensors that go in, and which ones are to come out."""

    id: str | None = None
    """Echoed."""

    inputs: list[InputTensor] = Field(min_length=1, max_length=_MOST_TENSORS)
    """What the model reads."""

    outputs: list[RequestedOutput] | None = Field(default=None, max_length=_MOST_TENSORS)
    """What is wanted, and in which order: the `prediction`, or the `output` of a model without a head, by default."""

    parameters: InferParameters | None = None
    """Of the request as a whole."""


class OutputTensor(BaseModel):
    """One output."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = Field(default=None, description="`binary_data_size` where it stands behind")
    data: list[float | None] | None = Field(default=None, description="flat; null where a sequence has ended")


class InferReply(BaseModel):
    """The answer: JSON, and behind it the outputs that are wanted in binary."""

    id: str | None = None
    model_name: str
    model_version: str
    parameters: dict[str, Any] | None = Field(
        default=None,
        description="of a sequence, its id; of a trace, its `residual`; `verified`: false beside a prediction of a "
        "model that is not; `notes`, in JSON: what was assumed; with `horizon` `sampling` and `samples`, in JSON: how "
        "tokens were drawn, and the texts that they make",
    )
    outputs: list[OutputTensor]


class RepositoryRequest(Schema):
    """What a repository is asked."""

    ready: bool = False
    """Of the index: only models that are ready."""

    parameters: dict[str, Any] | None = None
    """Of loading and unloading."""
