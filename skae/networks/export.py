"""Modules that `to_onnx` writes: from the columns of a table and classes to codes, and back."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from skae.data.columns import GraphColumn
from skae.networks.model import Model

# Relative distance up to which a number in float32 is equal to a category: its rounding.
_EQUAL = 2**-24


class PiecewiseLinear(nn.Module):
    """A non-decreasing piecewise linear map, with jumps: (n,) -> (n,), nan where missing.

    Parameters
    ----------
    points : ndarray of shape (2, n_points)
        Arguments and values. The map is extrapolated linearly. It jumps where an argument occurs twice.
    """

    def __init__(self, points: Any) -> None:
        super().__init__()
        x, y = torch.from_numpy(points).double()
        width, rise = x.diff(), y.diff()
        self.slope = torch.where(width > 0, rise / torch.where(width > 0, width, 1), 0)
        self.jump = torch.where(width > 0, 0, rise)
        self.begin, self.end, self.first = x[:-1], x[1:], y[0]
        self.low = torch.cat([torch.tensor([-torch.inf]), x[1:-1]])
        self.high = torch.cat([x[1:-1], torch.tensor([torch.inf])])

    def forward(self, x: Tensor) -> Tensor:
        known = torch.where(x.isnan(), 0.0, x)[:, None]
        inside = torch.minimum(torch.maximum(known, self.low), self.high) - self.begin
        value = self.first + (inside * self.slope + (known >= self.end).double() * self.jump).sum(1)
        return torch.where(x.isnan(), torch.nan, value)


class NumberInGraph(nn.Module):
    """The encoding of a `NumberColumn` as operations on tensors."""

    def __init__(self, column: Any) -> None:
        super().__init__()
        self.column = column
        self.to_scores, self.to_values = map(PiecewiseLinear, column.graph_maps())

    def encode(self, x: Tensor) -> Tensor:
        return self.to_scores(x)[:, None]

    def decode(self, block: Tensor) -> Tensor:
        value = self.to_values(block[:, 0])
        value = value.round() if self.column.is_whole else value
        value = value.clamp(float(self.column.low), float(self.column.high))[:, None]
        return (value >= 0.5).double() if self.column.type.family == "boolean" else value


class CategoryInGraph(nn.Module):
    """The one-hot encoding of a `GraphColumn` of categories; unknown ones are missing."""

    def __init__(self, column: GraphColumn) -> None:
        super().__init__()
        self.values = torch.tensor(column.numbers, dtype=torch.float64)
        self.places = torch.arange(len(self.values))

    def encode(self, x: Tensor) -> Tensor:
        distance = (x[:, None] - self.values).abs()
        is_nearest = (-distance).argmax(1, keepdim=True) == self.places
        found = (is_nearest & (distance <= _EQUAL * self.values.abs())).double()
        return torch.where(found.sum(1, keepdim=True) > 0, found, torch.nan)

    def decode(self, block: Tensor) -> Tensor:
        found = block.argmax(1, keepdim=True) == self.places
        return (found.double() * self.values).sum(1, keepdim=True)


class TableInGraph(nn.Module):
    """The encoding of a table as operations on tensors: (n, n_columns) -> (n, width), and back."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self.n_columns, self.places, columns = table.n_columns, table.places, []
        for column, of_graph in zip(table.columns, table.graph_columns(), strict=True):
            columns.append(CategoryInGraph(of_graph) if of_graph.values else NumberInGraph(column))
        self.columns: Any = columns

    def encode(self, x: Tensor) -> Tensor:
        parts = [column.encode(x[:, j]) for j, column in enumerate(self.columns)]
        return torch.cat([parts[j] for j in sorted(range(len(parts)), key=lambda j: self.places[j].start)], dim=1)

    def decode(self, rows: Tensor) -> Tensor:
        pairs = zip(self.columns, self.places, strict=True)
        return torch.cat([column.decode(rows[:, place]) for column, place in pairs], dim=1)


class ArrayInGraph(nn.Module):
    """The encoding of an array, which does nothing."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self.n_columns = table.n_columns

    def encode(self, x: Tensor) -> Tensor:
        return x

    decode = encode


class ExportedPart(nn.Module):
    """Map of samples or codes, with the class of each in a last column, to codes or samples.

    Parameters
    ----------
    model : Model
    n_components : int
    table : TableInGraph or ArrayInGraph
    classes : CategoryInGraph or None
    part : {"encoder", "decoder", "autoencoder"}
    """

    def __init__(self, model: Model, n_components: int, table: Any, classes: Any, part: str) -> None:
        super().__init__()
        self.model, self.n_components, self.table, self.classes, self.part = model, n_components, table, classes, part
        self.n_columns = n_components if part == "decoder" else table.n_columns

    def forward(self, x: Tensor) -> Tensor:
        context = None
        if self.classes is not None:
            context = self.classes.encode(x[:, self.n_columns])
            x = x[:, : self.n_columns]
        if self.part != "decoder":
            x = self.model.to_codes(self.table.encode(x), self.n_components, context)
        return x if self.part == "encoder" else self.table.decode(self.model.from_codes(x, context))


def exported(
    part: str, model: Model, n_components: int, table: Any, context: Any
) -> tuple[nn.Module, list[GraphColumn], list[GraphColumn]]:
    """Return the module of a part, on the cpu, and the columns of its input and its output."""
    codes, classes = [GraphColumn("codes", n_components)], context.graph_columns()
    in_graph = (ArrayInGraph if table.kind == "array" else TableInGraph)(table)
    of_classes = CategoryInGraph(*classes) if classes else None
    model = copy.deepcopy(model).cpu()
    model.prepare()
    module = ExportedPart(model, n_components, in_graph, of_classes, part)
    inputs = codes if part == "decoder" else table.graph_columns()
    outputs = codes if part == "encoder" else table.graph_columns("reconstruction" if part == "autoencoder" else None)
    return module, inputs + classes, outputs
