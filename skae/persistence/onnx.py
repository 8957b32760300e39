"""Export of fitted estimators and Pipelines as ONNX files, for other runtimes."""

from sklearn.utils.validation import check_is_fitted

from skae._version import __version__
from skae.persistence.graph import DTYPES, IR, ML, ML_OPSET, OPSET, graph_of_module

_PARTS = ("encoder", "decoder", "autoencoder")


def to_onnx(estimator, path, part="encoder", *, dtype="float32"):
    """Write a fitted network with its scaling as an ONNX file, for runtimes without Python or torch.

    Parameters
    ----------
    estimator : AutoencoderTransformer, VAEGenerator, LatentSizeCV or Pipeline
        Fitted. A Pipeline needs the package skl2onnx, and steps that take numbers.
    path : str or path-like
        The file, which is overwritten.
    part : {"encoder", "decoder", "autoencoder"}, default="encoder"
        "encoder" is `transform`, "decoder" is `inverse_transform`, "autoencoder" is both in sequence. A Pipeline only
        has the part "encoder", which is all its steps; skl2onnx names the outputs.
    dtype : {"float32", "float64"}, default="float32"
        Dtype of the graph's input and output.

    Raises
    ------
    ImportError
        If the package onnx is not installed, or, for a Pipeline, skl2onnx.
    TypeError
        If the estimator is of another kind, or a Pipeline is exported as another part than "encoder".
    ValueError
        If ``part`` or ``dtype`` is unknown, categories are intervals or have several types, or an own module cannot be
        exported.

    Notes
    -----
    The graph has one input and one output, for any number of samples. The encoder maps "rows" ``(n, n_features_in_)``
    to "codes" ``(n, n_components_)``, the decoder "codes" to "rows", and the autoencoder "rows" to "reconstruction".
    Samples have the units of X, codes those of `transform`. Samples are centred and scaled in float64, so that a large
    offset costs no precision beyond that of ``dtype``; the network computes in float32. The graph contains the
    refinement of codes, with its gradients, and imputes missing values (nan) as `transform` does. It does not check the
    values of samples, for example that they are counts.

    If columns were encoded one by one (mixed DataFrames), there is an input ``(n, 1)`` for each column, with its name:
    strings for categories that are strings, and numbers of ``dtype`` for all other columns. An unknown category is a
    missing value. The decoder has an output ``(n, 1)`` for each column, with its name; the autoencoder adds
    "_reconstruction" to the name. Outputs are strings, int64, bool or ``dtype``.

    For a conditional model there is a further input "class" ``(n, 1)``, the class of each sample: strings, or numbers
    of ``dtype``. Codes are conditional on this class, while `transform` averages over classes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer, to_onnx
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(2, max_iter=0).fit(X)
    >>> to_onnx(autoencoder, "encoder.onnx")  # doctest: +SKIP
    """
    name = type(estimator).__name__
    for parameter, value, options in (("part", part, _PARTS), ("dtype", dtype, DTYPES)):
        if value not in tuple(options):
            raise ValueError(f"{parameter}={value!r} is not known. Use one of {', '.join(map(repr, options))}.")
    is_pipeline = hasattr(estimator, "steps") and part == "encoder"
    if not (is_pipeline or hasattr(estimator, "exported_part")):
        raise TypeError(
            f"{name} is no estimator of skae. For a Pipeline or a search, pass the estimator inside, such as "
            "pipeline[-1]. A whole Pipeline can be exported as the part 'encoder' only."
        )
    try:
        import onnx

        if is_pipeline:
            import skl2onnx  # noqa: F401
    except ImportError as error:
        package = "skl2onnx" if is_pipeline else "onnx"
        raise ImportError(f"to_onnx needs {error.name or 'onnx'}: pip install {package}.") from error
    model = _model_of_pipeline(estimator, dtype) if is_pipeline else _model_of_part(estimator, part, dtype)
    onnx.save(model, path, format="protobuf")  # for any file extension


def _model_of_part(estimator, part, dtype):
    """Return the ONNX model of a part; an error names the user's modules that may be its cause."""
    exported, name = estimator.exported_part(part), type(estimator).__name__
    try:
        return graph_of_module(*exported, f"{part} of a {name}, by skae {__version__}", dtype)
    except Exception as error:  # tracing a user's module may raise anything
        model = getattr(estimator, "best_estimator_", estimator)
        own = [half for half in ("encoder", "decoder") if getattr(model, half, None) is not None]
        if not own:
            raise
        raise ValueError(
            f"The {part} cannot be exported: {error}. Its {' and '.join(own)} must be made of layers that ONNX has, "
            "and may use values, and the number of samples, in operations on tensors only."
        ) from error


def _model_of_pipeline(pipeline, dtype):
    """Return the ONNX model of a fitted Pipeline of numeric steps, from "rows" to the outputs of its last step.

    Parameters
    ----------
    pipeline : Pipeline
    dtype : {"float32", "float64"}
        Of the input.
    """
    check_is_fitted(pipeline)
    from skl2onnx import convert_sklearn, update_registered_converter
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    for kind in {type(step) for step in pipeline.get_params().values() if hasattr(type(step), "exported_part")}:
        update_registered_converter(kind, f"Skae{kind.__name__}", _set_shape, _convert, overwrite=True)
    of_rows = {"float32": FloatTensorType, "float64": DoubleTensorType}[dtype]([None, pipeline.n_features_in_])
    options = {id(pipeline): {"zipmap": False}} if hasattr(pipeline, "predict_proba") else None
    opsets = {"": OPSET, ML: ML_OPSET + 1}  # trees need it
    model = convert_sklearn(pipeline, "skae", [("rows", of_rows)], target_opset=opsets, options=options)
    model.ir_version = IR
    return model


def _set_shape(operator):
    """Set the type of a step's output."""
    width = operator.raw_operator.exported_part("encoder")[2][0].width
    operator.outputs[0].type = type(operator.inputs[0].type)([None, width])


def _convert(scope, operator, container):
    """Add the nodes of a step to the model, under new names."""
    module, inputs, outputs = operator.raw_operator.exported_part("encoder")
    dtype = {"FloatTensorType": "float32"}.get(type(operator.inputs[0].type).__name__, "float64")
    graph = graph_of_module(module, inputs, outputs, "", dtype).graph
    names = {inputs[0].name: operator.inputs[0].full_name, outputs[0].name: operator.outputs[0].full_name}

    def renamed(name):
        return names.setdefault(name, names.get(name) or scope.get_unique_variable_name(name))

    for constant in graph.initializer:
        constant.name = renamed(constant.name)
        container.initializers.append(constant)
    for node in graph.node:
        node.input[:], node.output[:] = map(renamed, node.input), map(renamed, node.output)
        node.name = scope.get_unique_operator_name(node.op_type)
        container.nodes.append(node)
    container.node_domain_version_pair_sets.add(("", OPSET))
