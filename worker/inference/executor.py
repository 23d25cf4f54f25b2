"""What the batcher needs of whatever runs batches: real sessions, or the pretend device."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from worker.inference.lane import LaneShape
from worker.inference.registry import ModelSet


class Frame(Protocol):
    """Memory for one batch, reused from batch to batch."""

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """[at least n, *shape] by tensor name, numbers of the contract's type."""
        ...


class Executor(Protocol):
    """Runs batches on its devices."""

    models: ModelSet

    def device(self, model: str) -> str | None:
        """Where a model runs; None as long as it is not loaded."""
        ...

    def lane(self, device: str) -> LaneShape:
        """How many runs a device takes at once."""
        ...

    def load(self, model: str) -> object:
        """Load a model; raises ModelError."""
        ...

    def frame(self, model: str, size: int) -> Any:
        """A `Frame` for a batch of `size` items; goes back by `release`. Raises ModelError."""
        ...

    def execute(self, model: str, frame: Any, size: int) -> Mapping[str, NDArray[Any]]:
        """Run it; the outputs are valid until `release`. Raises ModelError, OutOfMemoryError."""
        ...

    def release(self, model: str, frame: Any) -> None:
        """The frame's inputs and outputs are needed no more."""
        ...
