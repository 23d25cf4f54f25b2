"""Sparse weights of TensorFlow Lite, made dense.

The format is the one of the schema's `SparsityParameters`: the dimensions in traversal order, followed by the block
dimensions, each level dense or compressed (CSR: segments and indices).
"""

from typing import Any, Final

import numpy as np
import tflite
from numpy.typing import NDArray

_INDEX_VECTORS: Final = {
    tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
    tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
    tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
}


def densify(sparsity: Any, values: NDArray[Any], shape: list[int]) -> NDArray[Any]:
    """Spread the stored non-zero `values` (flat) over an array of `shape`, zero elsewhere."""
    rank = len(shape)
    order = [int(axis) for axis in sparsity.TraversalOrderAsNumpy()]
    blocked = [int(axis) for axis in sparsity.BlockMapAsNumpy()] if sparsity.BlockMapLength() else []
    levels = [sparsity.DimMetadata(k) for k in range(sparsity.DimMetadataLength())]

    # One row per stored position so far: its place among the positions of the level above, and its coordinates.
    places = np.zeros(1, np.int64)
    coordinates = np.zeros((1, 0), np.int64)
    for level in levels:
        if level.Format() == tflite.DimensionType.DENSE:
            size = level.DenseSize()
            along = np.tile(np.arange(size), len(places))
            parents = np.repeat(np.arange(len(places)), size)
            places = np.repeat(places, size) * size + along
        else:
            segments = _index_vector(level.ArraySegmentsType(), level.ArraySegments())
            indices = _index_vector(level.ArrayIndicesType(), level.ArrayIndices())
            counts = segments[places + 1] - segments[places]
            parents = np.repeat(np.arange(len(places)), counts)
            places = np.concatenate([np.arange(segments[p], segments[p + 1]) for p in places])
            along = indices[places]
        coordinates = np.column_stack([coordinates[parents], along])

    block_sizes = np.ones(rank, np.int64)
    for position, axis in enumerate(blocked):
        block_sizes[axis] = levels[rank + position].DenseSize()
    full = np.zeros((len(places), rank), np.int64)
    for position, axis in enumerate(order[:rank]):
        full[:, axis] = coordinates[:, position] * block_sizes[axis]
    for position, axis in enumerate(blocked):
        full[:, axis] += coordinates[:, rank + position]
    dense = np.zeros(shape, values.dtype)
    dense[tuple(full.T)] = values[places]
    return dense


def _index_vector(kind: int, table: Any) -> NDArray[np.int64]:
    vector = _INDEX_VECTORS[kind]()
    vector.Init(table.Bytes, table.Pos)
    return np.asarray(vector.ValuesAsNumpy()).astype(np.int64)
