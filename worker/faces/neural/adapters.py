"""One small class per kind of model, in the modules beside this one: what goes in, and what its answer means.

`prepare` makes the inputs of one run of one item, `decode` reads its outputs; nothing is run here, so that a pipeline
can submit as it likes and the engine can batch what many callers sent. What distinguishes models of a kind (names,
size, colours, template, range) is in their card. The tensors that `prepare` gives are used again by its next call,
which `ModelRunner.submit` allows; so an instance belongs to one thread.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from worker.inference.contracts import ImageContract
from worker.inference.registry import ModelCard

Tensors = Mapping[str, NDArray[Any]]


def image_of(card: ModelCard) -> ImageContract:
    """How a picture goes into a model. ValueError if its card does not say."""
    if card.contract.image is None:
        raise ValueError(f"the model {card.name} does not say how a picture goes in")
    return card.contract.image
