"""Translation of a network to an ONNX graph.

torch's own exporter does not support gradients inside a module. Therefore `make_fx` traces a module, gradients
included, and each traced operation is translated here.
"""

import copy
import operator
import warnings
from inspect import signature
from itertools import accumulate
from reprlib import repr as shortened

import numpy as np
import torch
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from skae._torch import assume_missing, no_gradients

# Versions of operations, of those for machine learning, and of the format.
OPSET, ML_OPSET, IR = 18, 2, 8
ML = "ai.onnx.ml"
# Dtypes of input and output, and kinds of columns, by ONNX's names.
DTYPES = {"float32": "FLOAT", "float64": "DOUBLE"}
_KINDS = {"integer": "INT64", "boolean": "BOOL", "text": "STRING"}

# Operations whose inputs all have one dtype: those with the same name in ONNX, apart from a prefix "bitwise_" or
# "logical_", and those with another name.
_LOGIC = ("and", "or", "not")
_OF_ONE = ("abs", "cos", "erf", "exp", "log", "neg", "reciprocal", "relu", "round", "sigmoid", "sign", "sin", "sqrt")
_OF_ONE += ("tanh",)
_OF_TWO = ("add", "div", "mul", "pow", "sub")
_ELEMENTWISE = {name: name.capitalize() for name in (*_LOGIC, *_OF_ONE, *_OF_TWO)} | {
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "isnan": "IsNaN",
    "le": "LessOrEqual",
    "lt": "Less",
    "maximum": "Max",
    "minimum": "Min",
}
_REDUCTIONS = {"sum": "ReduceSum", "mean": "ReduceMean", "amax": "ReduceMax"}
# Options of operations that say where a result is stored; its dtype is known from the trace.
_OF_STORAGE = {"device", "dtype", "layout", "memory_format", "non_blocking", "pin_memory"}
_UNCHANGED = ("alias", "clone", "contiguous", "detach", "lift_fresh_copy")
# Operations that torch decomposes, in addition to its core decompositions.
_DECOMPOSED = ("_log_softmax", "_softmax", "elu", "gelu", "hardtanh", "leaky_relu", "nan_to_num")


def graph_of_module(module, inputs, outputs, description, dtype="float64"):
    """Return an ONNX model of a module (n, n_inputs) -> (n, n_outputs), which computes in float64.

    Parameters
    ----------
    module : torch.nn.Module
    inputs, outputs : list of GraphColumn
    description : str
    dtype : {"float32", "float64"}, default="float64"
        Of inputs, and of outputs that are floats; they are cast.

    Raises
    ------
    NotImplementedError
        If an operation of the module has no translation; torch raises other errors if it cannot trace the module.
    ValueError
        If names are there twice or empty, or categories are equal as numbers of the dtype.
    """
    import onnx

    _check_ends(inputs, outputs, dtype)
    n_columns, graph = sum(column.width for column in inputs), _Graph(onnx)
    traced = _trace(copy.deepcopy(module).cpu().eval().requires_grad_(False), n_columns)
    columns = [graph.number_of(column) for column in inputs]
    samples = graph.op("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]
    for node in traced.graph.nodes:
        match node.op:
            case "placeholder":
                graph.values[node] = samples
            case "get_attr":
                graph.values[node] = getattr(traced, node.target).detach()
            case "call_function":
                graph.values[node] = graph.value_of(node)
            case "output":
                (result,) = node.args
    graph.write(graph.name(result), outputs, dtype)
    of_inputs = [column if column.kind == "text" else column._replace(kind="float") for column in inputs]
    ends = (
        [onnx.helper.make_tensor_value_info(c.name, graph.end_type(c, dtype), ["n", c.width]) for c in columns]
        for columns in (of_inputs, outputs)
    )
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "skae", *ends, graph.initializers, doc_string=description),
        opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(ML, ML_OPSET)],
        producer_name="skae",
        ir_version=IR,
    )
    onnx.checker.check_model(model)
    return model


def _check_ends(inputs, outputs, dtype):
    """Check that a graph can tell apart its inputs and outputs, and their categories."""
    names = [column.name for column in (*inputs, *outputs)]
    if len({*names, ""}) <= len(names):
        raise ValueError(f"Inputs and outputs of a graph need different names, not {names}. Rename columns first.")
    for column, of_column in [(column, dtype) for column in inputs] + [(column, "float64") for column in outputs]:
        numbers = column.numbers if column.kind in ("integer", "float") and column.values else []
        if numbers and (numbers != column.values or len(np.unique(np.array(numbers, of_column))) < len(numbers)):
            raise ValueError(
                f"Categories of {column.name!r} are not all different in {of_column}: {shortened(column.values)}. Use "
                "dtype='float64', or make strings of them before fitting."
            )


def _trace(module, n_columns):
    """Return a graph of the operations of a module, for any number of samples and without in-place operations."""
    from torch._decomp import core_aten_decompositions, get_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    aten = torch.ops.aten
    rules = dict(core_aten_decompositions().items()) | get_decompositions([getattr(aten, op) for op in _DECOMPOSED])
    del rules[aten.lerp.Tensor], rules[aten.lerp.Scalar]
    rules |= {
        aten.convolution_backward.default: _convolution_backward,
        aten._linalg_check_errors.default: lambda info, name, *, is_matrix: None,
    }
    # Sizes that are equal in the trace are equal in the graph, so the number of samples must differ from all others.
    samples = torch.zeros((131 if n_columns == 127 else 127, n_columns), dtype=torch.float64)

    def trace(function):
        traced = make_fx(function, rules, tracing_mode="symbolic", _allow_non_fake_inputs=True)(samples)
        traced.graph.eliminate_dead_code()
        return traced

    def computed(x):
        with _Constants():
            return module(x)

    with no_gradients(), assume_missing(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The .grad attribute")  # torch reads it of slices of weights
        traced = trace(computed)
        if any(getattr(node.target, "_schema", None) and node.target._schema.is_mutable for node in traced.graph.nodes):
            traced = trace(torch.func.functionalize(traced))
        return traced


class _Constants(TorchDispatchMode):
    """Mode that evaluates operations that do not depend on the samples, so that a module may read values of buffers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(isinstance(leaf, FakeTensor | torch.SymInt) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        with _disable_current_modes():
            return func(*args, **kwargs)


def _convolution_backward(
    grad, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, output_mask
):
    """Return the gradient with respect to the input, for strides of 1; weights are constants and need none."""
    if transposed or any(s != 1 for s in stride):
        raise NotImplementedError("the gradient of a convolution with a stride")
    return torch.ops.aten.convolution(grad, weight, None, stride, padding, dilation, True, [0, 0], groups), None, None


class _Graph:
    """Nodes and constants of an ONNX graph, without duplicates.

    Parameters
    ----------
    onnx : module

    Attributes
    ----------
    nodes, initializers : list
    values : dict
        Maps nodes of the traced graph to names in this one, or to tensors if they are constant.
    """

    def __init__(self, onnx):
        self.onnx, self.nodes, self.initializers, self.values, self._known = onnx, [], [], {}, {}

    def value_of(self, node):
        """Translate an operation whose arguments are translated already; return its value."""
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]
        inputs = [self.values[argument] for argument in node.all_input_nodes]
        if all(map(torch.is_tensor, inputs)):
            return node.target(*torch.fx.node.map_arg(node.args, self.values.get), **node.kwargs)
        kwargs = {name: value for name, value in node.kwargs.items() if name not in _OF_STORAGE}
        kind = node.target.__name__.split(".")[0].removeprefix("bitwise_").removeprefix("logical_")
        found = node.meta["val"]
        if kind in _UNCHANGED:
            return self.values[node.args[0]]
        if kind in _ELEMENTWISE and not kwargs:
            return self._elementwise(kind, found, node.args)
        if kind in _REDUCTIONS:
            return self._reduce(_REDUCTIONS[kind], found, *node.args, **kwargs)
        rule = getattr(self, f"_{kind.strip('_')}", None)
        if rule is None or not kwargs.keys() <= signature(rule).parameters.keys():
            raise NotImplementedError(f"{node.target} with {kwargs or 'no options'} has no translation to ONNX")
        return rule(found, *node.args, **kwargs)

    # Names.

    def op(self, kind, *inputs, **attributes):
        """Return the name of an operation's result."""
        key = (kind, inputs, repr(sorted(attributes.items())))
        if key not in self._known:
            self._known[key] = f"skae/{kind}_{len(self.nodes)}"
            self.nodes.append(self.onnx.helper.make_node(kind, inputs, [self._known[key]], **attributes))
        return self._known[key]

    def name(self, part, dtype=None):
        """Return the name of a node, a tensor or a number, in this dtype if one is asked for."""
        value = self.values.get(part, part)
        if not isinstance(value, str):
            return self._constant(torch.as_tensor(value, dtype=dtype))
        return value if dtype in (None, _dtype_of(part)) else self.cast(value, dtype)

    def cast(self, name, dtype):
        """Return the name of a result in this dtype."""
        dtype = torch.empty(0, dtype=dtype).numpy().dtype
        return self.op("Cast", name, to=self.onnx.helper.np_dtype_to_tensor_dtype(dtype))

    def _constant(self, tensor):
        array = tensor.contiguous().numpy()
        key = (tensor.dtype, tensor.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"skae/constant_{len(self.initializers)}"
            self.initializers.append(self.onnx.numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    # Inputs and outputs.

    def number_of(self, column):
        """Return the name of an input in float64: of a string the index of the category, -1 if it is unknown."""
        name = column.name
        if column.kind == "text":
            places = {"keys_strings": column.values, "values_int64s": column.numbers, "default_int64": -1}
            name = self.op("LabelEncoder", name, domain=ML, **places)
        return self.cast(name, torch.float64)

    def end_type(self, column, dtype):
        """Return the type of an input or output; that of floats is ``dtype``."""
        return getattr(self.onnx.TensorProto, _KINDS.get(column.kind, DTYPES[dtype]))

    def write(self, result, columns, dtype):
        """Add nodes that write the columns of a result to the outputs."""
        ends = list(accumulate(column.width for column in columns))
        for column, end in zip(columns, ends, strict=True):
            part = self._slice(None, result, 1, end - column.width, end) if len(columns) > 1 else result
            kind, attributes = "Cast", {"to": self.end_type(column, dtype)}
            if column.kind == "text":
                part = self.cast(part, torch.int64)
                kind, attributes = "LabelEncoder", {"keys_int64s": column.numbers, "values_strings": column.values}
                attributes["domain"] = ML
            self.nodes.append(self.onnx.helper.make_node(kind, [part], [column.name], **attributes))

    def sizes(self, sizes):
        """Return the name of a shape, of which some sizes may be nodes."""
        if not any(size in self.values for size in sizes):
            return self.name(torch.tensor(sizes, dtype=torch.int64))
        return self.op("Concat", *(self.name(n if n in self.values else torch.tensor([n])) for n in sizes), axis=0)

    # Rules: the result as traced, then the operation's arguments.

    def _elementwise(self, kind, found, parts):
        dtype = _dtype_of(found)
        if kind in _LOGIC:
            dtype = torch.bool
        elif not dtype.is_floating_point:
            dtype = _promoted(*parts)
        return self.op(_ELEMENTWISE[kind], *(self.name(part, dtype) for part in parts))

    def _reduce(self, kind, found, x, dims=None, keepdim=False):
        return self.op(kind, self.name(x, found.dtype), *([self.sizes(dims)] if dims else []), keepdims=int(keepdim))

    def _sym_size(self, found, x, dim):
        return self.op("Shape", self.name(x), start=dim, end=dim + 1)

    def _view(self, found, x, sizes):
        # If there are no samples, one size is 0 and a -1 cannot be inferred: known sizes replace it.
        known = [n if size == -1 and isinstance(n, int) else size for size, n in zip(sizes, found.shape, strict=True)]
        return self.op("Reshape", self.name(x), self.sizes(known), allowzero=1)

    _unsafe_view = _reshape = _view

    def _expand(self, found, x, sizes):
        return self.op("Expand", self.name(x), self.sizes([1 if size == -1 else size for size in sizes]))

    def _full(self, found, sizes, value):
        return self.op("Expand", self.name(value, found.dtype), self.sizes(sizes))

    def _full_like(self, found, x, value):
        return self.op("Expand", self.name(value, found.dtype), self.op("Shape", self.name(x)))

    def _unsqueeze(self, found, x, dim):
        return self.op("Unsqueeze", self.name(x), self.sizes([dim]))

    def _squeeze(self, found, x, dims):
        return self.op("Squeeze", self.name(x), self.sizes(dims))

    def _permute(self, found, x, dims):
        return self.op("Transpose", self.name(x), perm=[dim % len(dims) for dim in dims])

    def _slice(self, found, x, dim=0, start=0, end=2**63 - 1, step=1):
        return self.op("Slice", self.name(x), *(self.sizes([value]) for value in (start, end, dim, step)))

    def _split_with_sizes(self, found, x, sizes, dim=0):
        ends = accumulate(sizes)
        return [self._slice(part, x, dim, end - n, end) for part, n, end in zip(found, sizes, ends, strict=True)]

    def _select(self, found, x, dim, index):
        return self.op("Gather", self.name(x), self.name(torch.tensor(index)), axis=dim)

    def _index(self, found, x, indices):
        *others, places = indices
        if places is None or any(other is not None for other in others):
            raise NotImplementedError("an index along several dimensions")
        return self.op("Gather", self.name(x), self.name(places), axis=len(others))

    def _cat(self, found, parts, dim=0):
        return self.op("Concat", *(self.name(part, found.dtype) for part in parts), axis=dim)

    def _constant_pad_nd(self, found, x, pads, value=0):
        kept = [0] * (found.ndim - len(pads) // 2)
        ends = kept + pads[::2][::-1] + kept + pads[1::2][::-1]
        return self.op("Pad", self.name(x), self.sizes(ends), self.name(value, found.dtype))

    def _to_copy(self, found, x):
        return self.name(x, found.dtype)

    def _copy(self, found, x, source):
        return self.op("Expand", self.name(source, found.dtype), self.op("Shape", self.name(x)))

    def _where(self, found, condition, x, other):
        return self.op("Where", self.name(condition), self.name(x, found.dtype), self.name(other, found.dtype))

    def _clamp(self, found, x, low=None, high=None):
        result = self.name(x, found.dtype)
        for kind, bound in (("Max", low), ("Min", high)):
            result = result if bound is None else self.op(kind, result, self.name(bound, found.dtype))
        return result

    def _lerp(self, found, x, end, share):
        x, end, share = (self.name(part, found.dtype) for part in (x, end, share))
        return self.op("Add", x, self.op("Mul", share, self.op("Sub", end, x)))

    def _log1p(self, found, x):
        return self.op("Log", self.op("Add", self.name(x), self.name(1.0, found.dtype)))

    def _rsqrt(self, found, x):
        return self.op("Reciprocal", self.op("Sqrt", self.name(x)))

    def _expm1(self, found, x):
        return self.op("Sub", self.op("Exp", self.name(x)), self.name(1.0, found.dtype))

    def _mm(self, found, x, other):
        return self.op("MatMul", self.name(x), self.name(other))

    _bmm = _mm

    def _addmm(self, found, bias, x, weight, beta=1, alpha=1):
        factors = {"alpha": float(alpha), "beta": float(beta)}
        return self.op("Gemm", self.name(x), self.name(weight), self.name(bias), **factors)

    def _argmax(self, found, x, dim, keepdim=False):
        return self.op("ArgMax", self.name(x), axis=dim, keepdims=int(keepdim))

    def _convolution(self, found, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
        shape = {"strides": stride, "pads": [*padding, *padding], "dilations": dilation, "group": groups}
        if transposed:
            shape["output_padding"] = output_padding
        inputs = [self.name(part) for part in (x, weight, bias) if part is not None]
        return self.op("ConvTranspose" if transposed else "Conv", *inputs, **shape)

    def _max_pool2d_with_indices(self, found, x, kernel, stride=None, padding=(0, 0), dilation=(1, 1), ceil=False):
        shape = {"pads": [*padding, *padding], "dilations": [*dilation], "ceil_mode": int(ceil)}
        return [self.op("MaxPool", self.name(x), kernel_shape=kernel, strides=stride or kernel, **shape)]

    # ONNX has no factorisations and solvers: they are written out, column by column.

    def _linalg_cholesky_ex(self, found, matrix, **options):
        size, rest, columns = found[0].shape[-1], self.name(matrix), []
        for i in range(size):
            lower = self.name((torch.arange(size) >= i).to(found[0].dtype)[:, None])
            column = self._slice(None, rest, 2, i, i + 1)
            root = self.op("Sqrt", self._slice(None, column, 1, i, i + 1))
            column = self.op("Mul", lower, self.op("Div", column, root))
            rest = self.op("Sub", rest, self.op("MatMul", column, self.op("Transpose", column, perm=[0, 2, 1])))
            columns.append(column)
        return [self.op("Concat", *columns, axis=2)]

    def _cholesky_solve(self, found, right, factor, upper=False):
        rest, lower = self.name(right), self.name(factor)
        forward = range(found.shape[1])
        for order, triangle in ((forward, lower), (forward[::-1], self.op("Transpose", lower, perm=[0, 2, 1]))):
            solved = {}
            for i in order:
                column = self._slice(None, triangle, 2, i, i + 1)
                solved[i] = self.op("Div", self._slice(None, rest, 1, i, i + 1), self._slice(None, column, 1, i, i + 1))
                rest = self.op("Sub", rest, self.op("Mul", column, solved[i]))
            rest = self.op("Concat", *(solved[i] for i in forward), axis=1)
        return rest

    def _native_batch_norm_legit_no_training(self, found, x, weight, bias, mean, variance, momentum, epsilon):
        return [self.op("BatchNormalization", *map(self.name, (x, weight, bias, mean, variance)), epsilon=epsilon)]

    def _native_layer_norm(self, found, x, shape, weight, bias, epsilon):
        return [self.op("LayerNormalization", *map(self.name, (x, weight, bias)), axis=-len(shape), epsilon=epsilon)]


def _traced(part):
    """Return the traced value of a node; return other arguments unchanged."""
    return part.meta["val"] if isinstance(part, torch.fx.Node) else part


def _dtype_of(part):
    """Return the dtype of a node or of a result; int64, the dtype of sizes, for all others."""
    return getattr(_traced(part), "dtype", torch.int64)


def _promoted(*parts):
    """Return the dtype to which torch promotes these nodes and numbers in a comparison."""
    ends = _traced(parts[0]), _traced(parts[-1])
    return torch.result_type(*ends) if any(map(torch.is_tensor, ends)) else torch.int64
