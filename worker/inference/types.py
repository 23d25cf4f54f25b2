"""What every caller of a model sees: how to run one, and how that can fail."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from numpy.typing import NDArray

Service = Literal["interactive", "offline"]  # somebody waits for a photo; a video only has to be done

ModelErrorCode = Literal[
    "model_missing",  # no such file, or no such name in the registry
    "model_hash_mismatch",  # a file is there, but it is not the one that was registered
    "source_unavailable",  # the packages the models are made from could not be fetched or are not the pinned ones
    "write_failed",  # the models folder cannot be written
    "input_invalid",  # the tensors do not fit the model's contract
    "engine_unavailable",  # no engine process answers and none could be started
    "engine_failed",  # the engine process ended or refused while a request was open
    "model_unknown",  # no model of that name can be installed
    "hash_unknown",  # the SHA-256 of an operator's model is not known yet, and nobody gave their word for it
    "licence_not_accepted",  # the licence forbids commercial use or is unknown, and the operator has not accepted it
    "record_unreadable",  # the record of installed models is damaged
    "model_unfit",  # an operator's file is no ONNX model, or not one with the tensors of its contract
    "provider_unavailable",  # the required device cannot run the model
    "pack_malformed",  # a detector pack's manifest is none
    "pack_licence_missing",  # it does not say under which licence its weights are
    "precision_unproven",  # the required precision has no record of a passed gate
]


class ModelError(Exception):
    """A model could not be made, loaded or run. `code` is stable, the message says what happened and what to do."""

    def __init__(self, code: ModelErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: Final[ModelErrorCode] = code
        self.message: Final = message


class OutOfMemoryError(Exception):
    """The device had no room for a run of this size; a smaller batch may fit."""


class Pending(Protocol):
    """A run that was handed in and may not have ended yet."""

    def result(self) -> dict[str, NDArray[Any]]:
        """Wait for the end: the outputs by name, the caller's own. Raises ModelError, on every call alike."""
        ...


class ModelRunner(Protocol):
    """Runs one registered model on a batch; thread-safe."""

    def submit(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> Pending:
        """Hand in a run as `run` takes it, without waiting for its end. The arrays may be changed after the return.

        Raises ModelError at once for tensors that do not fit; what goes wrong later is raised by `Pending.result`.
        """
        ...

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run `model` on arrays by input name, first axis the batch; gives those of its outputs likewise.

        The same as `submit(model, inputs).result()`.

        Names, shapes and value ranges are the model card's contract (`registry.cards()`). Raises ModelError.
        """
        ...


@dataclass(frozen=True)
class Done:
    """A run that had ended when it was handed back; a `Pending`."""

    outputs: dict[str, NDArray[Any]]

    def result(self) -> dict[str, NDArray[Any]]:
        """The outputs."""
        return self.outputs
