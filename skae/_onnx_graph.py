"""A torch module, and the gradients that it follows, as an ONNX graph.

torch's own exporter follows no gradient inside a module, and takes a minute for a graph whose gradients are written
out. So `make_fx` writes them out here, and what it writes is translated operation by operation.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import nn

_OPSET, _IR = 18, 8
_LARGEST = 2**63 - 1

_UNARY = {
    "abs": "Abs",
    "bitwise_not": "Not",
    "cos": "Cos",
    "erf": "Erf",
    "exp": "Exp",
    "isnan": "IsNaN",
    "log": "Log",
    "logical_not": "Not",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min"}
_COMPARISONS = {"eq": "Equal", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual"}
_LOGIC = {"logical_and": "And", "bitwise_and": "And", "logical_or": "Or", "bitwise_or": "Or"}
_SAME = {"alias", "clone", "contiguous", "detach", "lift_fresh_copy"}


def write_graph(module: nn.Module, n_columns: int, path, input_name: str, output_name: str, about: str) -> None:
    """Write an ONNX file of a module that takes and gives float64, (n, n_columns) -> (n, anything).

    Raises
    ------
    NotImplementedError
        If the module does what is not translated; other errors are torch's, of a module that cannot be traced.
    """
    import onnx

    traced, translation = _traced(module, n_columns), _Translation()
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            translation.values[node] = input_name
        elif node.op == "get_attr":
            translation.values[node] = getattr(traced, node.target).detach()
        elif node.op == "call_function":
            translation.values[node] = translation.of(node)
        else:
            (result,) = node.args
            translation.name_output(translation.name(result), output_name)
            width = result.meta["val"].shape[1]
    helper, double = onnx.helper, onnx.TensorProto.DOUBLE
    graph = helper.make_graph(
        translation.nodes,
        "skae",
        [helper.make_tensor_value_info(input_name, double, ["n", n_columns])],
        [helper.make_tensor_value_info(output_name, double, ["n", int(width)])],
        translation.initializers,
        doc_string=about,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="skae")
    model.ir_version = _IR
    onnx.checker.check_model(model)
    onnx.save(model, path, format="protobuf")  # whatever the path ends in


def _traced(module, n_columns):
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    aten = torch.ops.aten
    whole = (aten.lerp.Tensor, aten.lerp.Scalar, aten.nan_to_num.default)
    table = {op: rule for op, rule in core_aten_decompositions().items() if op not in whole}
    table[aten.convolution_backward.default] = _convolution_backward
    rows = torch.zeros((3, n_columns), dtype=torch.float64)
    traced = make_fx(module, table, tracing_mode="symbolic", _allow_non_fake_inputs=True)(rows)
    traced.graph.eliminate_dead_code()
    return traced


def _convolution_backward(
    grad, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, output_mask
):
    """The derivative by the input, for strides of 1; that by weights, which are constants here, nobody asks for."""
    if transposed or any(s != 1 for s in stride):
        raise NotImplementedError("the gradient of a convolution with a stride")
    return torch.ops.aten.convolution(grad, weight, None, stride, padding, dilation, True, [0, 0], groups), None, None


class _Translation:
    """Nodes and constants of an ONNX graph, each only once.

    Values are names in the graph or, where all that they are made of is known, tensors.
    """

    def __init__(self):
        self.values, self.nodes, self.initializers, self._known = {}, [], [], {}

    def of(self, node):
        """The value of a node, given those of its arguments."""
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]
        inputs = [self.values[argument] for argument in node.all_input_nodes]
        if all(isinstance(value, torch.Tensor) for value in inputs):
            return node.target(*torch.fx.node.map_arg(node.args, self.values.get), **node.kwargs)
        kind = node.target.__name__.split(".")[0]
        rule = getattr(self, f"_{kind.strip('_')}", None)
        arguments, dtype = node.args, getattr(node.meta["val"], "dtype", torch.int64)
        if kind in _SAME:
            return self.values[arguments[0]]
        if kind in _UNARY:
            return self.op(_UNARY[kind], self.name(arguments[0]))
        if kind in _BINARY and not node.kwargs:
            return self.op(_BINARY[kind], *(self.name(part, dtype) for part in arguments))
        if kind in _COMPARISONS:
            common = torch.result_type(*(part.meta["val"] if hasattr(part, "meta") else part for part in arguments))
            return self.op(_COMPARISONS[kind], *(self.name(part, common) for part in arguments))
        if kind in _LOGIC:
            return self.op(_LOGIC[kind], *(self.name(part, torch.bool) for part in arguments))
        if rule is None:
            raise NotImplementedError(f"{node.target} has no translation to ONNX")
        return rule(
            node, dtype, *arguments, **{k: v for k, v in node.kwargs.items() if k in ("keepdim", "approximate")}
        )

    # Names.

    def op(self, kind, *inputs, n_outputs=None, **attributes):
        """The name of what an operation gives, or of all that it gives."""
        import onnx

        key = (kind, inputs, repr(sorted(attributes.items())))
        if key not in self._known:
            names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(n_outputs or 1)]
            self.nodes.append(onnx.helper.make_node(kind, inputs, names, **attributes))
            self._known[key] = names if n_outputs else names[0]
        return self._known[key]

    def name(self, value, dtype=None):
        """The name of a node, a tensor or a number, in this dtype if one is asked for."""
        if isinstance(value, torch.fx.Node):
            known, has = self.values[value], getattr(value.meta.get("val"), "dtype", torch.int64)
            if isinstance(known, str):
                return known if dtype in (None, has) else self.op("Cast", known, to=_onnx_type(dtype))
            value = known
        return self._constant(torch.as_tensor(value, dtype=dtype))

    def _constant(self, tensor):
        import onnx

        tensor = tensor.contiguous()
        key = (tensor.dtype, tensor.shape, tensor.numpy().tobytes())
        if key not in self._known:
            self._known[key] = f"constant_{len(self.initializers)}"
            self.initializers.append(onnx.numpy_helper.from_array(tensor.numpy(), self._known[key]))
        return self._known[key]

    def sizes(self, sizes):
        """A shape, of which some sizes may be nodes."""
        if not any(isinstance(size, torch.fx.Node) for size in sizes):
            return self.name(torch.tensor(sizes, dtype=torch.int64))
        parts = (self.name(size if isinstance(size, torch.fx.Node) else torch.tensor([size])) for size in sizes)
        return self.op("Concat", *parts, axis=0)

    def name_output(self, name, wanted):
        import onnx

        self.nodes.append(onnx.helper.make_node("Identity", [name], [wanted]))

    # Sizes.

    def _sym_size(self, node, dtype, x, dim):
        return self.op("Shape", self.name(x), start=dim, end=dim + 1)

    def _view(self, node, dtype, x, sizes):
        # With a 0 among the sizes, which is no rows, a -1 says nothing: what is known is said.
        found = node.meta["val"].shape
        sizes = [n if size == -1 and isinstance(n, int) else size for size, n in zip(sizes, found, strict=True)]
        return self.op("Reshape", self.name(x), self.sizes(sizes), allowzero=1)

    _unsafe_view = _reshape = _view

    def _expand(self, node, dtype, x, sizes):
        return self.op("Expand", self.name(x), self.sizes([1 if size == -1 else size for size in sizes]))

    def _full(self, node, dtype, sizes, value):
        return self.op("Expand", self.name(value, dtype), self.sizes(sizes))

    def _full_like(self, node, dtype, x, value):
        return self.op("Expand", self.name(value, dtype), self.op("Shape", self.name(x)))

    def _unsqueeze(self, node, dtype, x, dim):
        return self.op("Unsqueeze", self.name(x), self.sizes([dim]))

    def _squeeze(self, node, dtype, x, dims):
        return self.op("Squeeze", self.name(x), self.sizes(dims if isinstance(dims, Sequence) else [dims]))

    def _permute(self, node, dtype, x, dims):
        n = x.meta["val"].ndim
        return self.op("Transpose", self.name(x), perm=[dim % n for dim in dims])

    # Parts.

    def _slice(self, node, dtype, x, dim=0, start=None, end=None, step=1):
        begin, end = start or 0, _LARGEST if end is None else end
        if (begin, end, step) == (0, _LARGEST, 1):
            return self.name(x)
        return self.op("Slice", self.name(x), *(self.sizes([value]) for value in (begin, end, dim, step)))

    def _select(self, node, dtype, x, dim, index):
        return self.op("Gather", self.name(x), self.name(torch.tensor(index)), axis=dim)

    def _cat(self, node, dtype, parts, dim=0):
        return self.op("Concat", *(self.name(part, dtype) for part in parts), axis=dim)

    def _split_with_sizes(self, node, dtype, x, sizes, dim=0):
        return self.op("Split", self.name(x), self.sizes(sizes), axis=dim, n_outputs=len(sizes))

    def _constant_pad_nd(self, node, dtype, x, pads, value=0):
        if not any(pads):
            return self.name(x)
        missing = [0] * (x.meta["val"].ndim - len(pads) // 2)
        before, after = missing + pads[::2][::-1], missing + pads[1::2][::-1]
        return self.op("Pad", self.name(x), self.sizes(before + after), self.name(value, dtype))

    # Numbers.

    def _to_copy(self, node, dtype, x):
        return self.name(x, dtype)

    def _where(self, node, dtype, condition, x, other):
        return self.op("Where", self.name(condition), self.name(x, dtype), self.name(other, dtype))

    def _clamp(self, node, dtype, x, low=None, high=None):
        result = self.name(x, dtype)
        if low is not None:
            result = self.op("Max", result, self.name(low, dtype))
        return result if high is None else self.op("Min", result, self.name(high, dtype))

    def _lerp(self, node, dtype, x, end, share):
        x, end, share = (self.name(part, dtype) for part in (x, end, share))
        return self.op("Add", x, self.op("Mul", share, self.op("Sub", end, x)))

    def _nan_to_num(self, node, dtype, x, nan=0.0, high=None, low=None):
        x, most = self.name(x), torch.finfo(dtype)
        low, high = (most.min if low is None else low), (most.max if high is None else high)
        finite = self.op("Min", self.op("Max", x, self.name(low, dtype)), self.name(high, dtype))
        return self.op("Where", self.op("IsNaN", x), self.name(nan or 0.0, dtype), finite)

    def _log1p(self, node, dtype, x):
        return self.op("Log", self.op("Add", self.name(x), self.name(1.0, dtype)))

    def _rsqrt(self, node, dtype, x):
        return self.op("Reciprocal", self.op("Sqrt", self.name(x)))

    def _sum(self, node, dtype, x, dims=None, keepdim=False):
        return self._reduced("ReduceSum", x, dtype, dims, keepdim)

    def _mean(self, node, dtype, x, dims=None, keepdim=False):
        return self._reduced("ReduceMean", x, dtype, dims, keepdim)

    def _amax(self, node, dtype, x, dims=None, keepdim=False):
        return self._reduced("ReduceMax", x, dtype, dims, keepdim)

    def _reduced(self, kind, x, dtype, dims, keepdim):
        return self.op(kind, self.name(x, dtype), *([self.sizes(dims)] if dims else []), keepdims=int(keepdim))

    def _softmax(self, node, dtype, x, dim, half):
        return self.op("Softmax", self.name(x), axis=dim)

    def _log_softmax(self, node, dtype, x, dim, half):
        return self.op("LogSoftmax", self.name(x), axis=dim)

    # Layers.

    def _mm(self, node, dtype, x, other):
        return self.op("MatMul", self.name(x), self.name(other))

    _bmm = _mm

    def _addmm(self, node, dtype, bias, x, weight):
        return self.op("Gemm", self.name(x), self.name(weight), self.name(bias))

    def _gelu(self, node, dtype, x, approximate="none"):
        if approximate != "none":
            raise NotImplementedError(f"GELU with approximate={approximate!r} has no translation to ONNX")
        x = self.name(x)
        share = self.op("Erf", self.op("Mul", x, self.name(0.5**0.5, dtype)))
        return self.op("Mul", self.op("Mul", x, self.name(0.5, dtype)), self.op("Add", share, self.name(1.0, dtype)))

    def _elu(self, node, dtype, x, alpha=1.0, scale=1.0, input_scale=1.0):
        if (scale, input_scale) != (1, 1):
            raise NotImplementedError("SELU and its like have no translation to ONNX")
        return self.op("Elu", self.name(x), alpha=float(alpha))

    def _leaky_relu(self, node, dtype, x, slope=0.01):
        return self.op("LeakyRelu", self.name(x), alpha=float(slope))

    def _convolution(self, node, dtype, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
        shape = {"strides": stride, "pads": [*padding, *padding], "dilations": dilation, "group": groups}
        if transposed:
            shape["output_padding"] = output_padding
        inputs = [self.name(part) for part in (x, weight, bias) if part is not None]
        return self.op("ConvTranspose" if transposed else "Conv", *inputs, **shape)

    def _max_pool2d_with_indices(
        self, node, dtype, x, kernel, stride=None, padding=(0, 0), dilation=(1, 1), ceil=False
    ):
        shape = {"pads": [*padding, *padding], "dilations": [*dilation], "ceil_mode": int(ceil)}
        return [self.op("MaxPool", self.name(x), kernel_shape=kernel, strides=stride or kernel, **shape)]

    def _native_batch_norm_legit_no_training(self, node, dtype, x, weight, bias, mean, variance, momentum, epsilon):
        inputs = [self.name(part) for part in (x, weight, bias, mean, variance)]
        return [self.op("BatchNormalization", *inputs, epsilon=epsilon)]

    def _native_layer_norm(self, node, dtype, x, shape, weight, bias, epsilon):
        inputs = [self.name(part) for part in (x, weight, bias)]
        return self.op("LayerNormalization", *inputs, axis=-len(shape), epsilon=epsilon, n_outputs=3)


def _onnx_type(dtype):
    import onnx

    return {
        torch.float32: onnx.TensorProto.FLOAT,
        torch.float64: onnx.TensorProto.DOUBLE,
        torch.bool: onnx.TensorProto.BOOL,
        torch.int64: onnx.TensorProto.INT64,
    }[dtype]
