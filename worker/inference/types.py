"""What every caller of a model sees: how to run one, and how that can fail."""

from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

from numpy.typing import NDArray

ModelErrorCode = Literal[
    "model_missing",  # no such file, or no such name in the registry
    "model_hash_mismatch",  # a file is there, but it is not the one that was registered
    "source_unavailable",  # the packages the models are made from could not be fetched or are not the pinned ones
    "write_failed",  # the models folder cannot be written
    "input_invalid",  # the tensors do not fit the model's contract
    "engine_unavailable",  # no engine process answers and none could be started
    "engine_failed",  # the engine process ended or refused while a request was open
    "provider_unavailable",  # the required device cannot run the model
    "precision_unproven",  # the required precision has no record of a passed gate
]


class ModelError(Exception):
    """A model could not be made, loaded or run. `code` is stable, the message says what happened and what to do."""

    def __init__(self, code: ModelErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: Final[ModelErrorCode] = code
        self.message: Final = message


class ModelRunner(Protocol):
    """Runs one registered model on a batch; thread-safe."""

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run `model` on arrays by input name, first axis the batch; gives arrays by output name, all float32.

        Names, shapes and value ranges are the model card's contract (`registry.cards()`). Raises ModelError.
        """
        ...
