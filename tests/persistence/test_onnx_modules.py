"""What a runtime computes from an exported module is what the module computes, for any number of samples."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skae._torch import has_missing
from skae.data.columns import GraphColumn
from skae.persistence.graph import graph_of_module
from skae.persistence.onnx import to_onnx

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
X = np.random.RandomState(0).normal(size=(6, 4))


class Float32(nn.Module):
    """Layers in float32, between float64."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x.float()).double()


class Function(nn.Module):
    """A function of x and of a module's buffers."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.linear = nn.Linear(4, 4).double()
        self.convolution = nn.Conv2d(1, 2, 3, padding=1)
        self.register_buffer("marks", torch.tensor([True, False, False, True]))
        self.register_buffer("number", torch.tensor(2))
        self.register_buffer("matrix", torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3))

    def forward(self, x):
        return self.function(self, x)


def exported(module, path):
    torch.manual_seed(0)
    width = copy.deepcopy(module).eval()(torch.from_numpy(X)).shape[1]
    model = graph_of_module(module, [GraphColumn("rows", 4)], [GraphColumn("codes", width)], "a module")
    onnx.save(model, path)
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


def agree(module, samples, tmp_path, tolerance=1e-12):
    session = exported(module.eval(), tmp_path / "graph.onnx")
    with torch.no_grad():
        expected = module(torch.from_numpy(samples)).numpy()
    for n in (len(samples), 1, 0):
        (found,) = session.run(None, {"rows": samples[:n]})
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected[:n], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(4, 8), nn.LayerNorm(8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)],
        [nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2), nn.Softmax(1)],
        [nn.Linear(4, 2), nn.GELU("tanh"), nn.SELU(), nn.LeakyReLU(), nn.ELU(), nn.LogSoftmax(1)],
        [nn.Linear(4, 2), nn.Mish(), nn.Softplus(), nn.Hardtanh(), nn.SiLU(), nn.GELU()],
        [nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.Flatten()],
        [nn.Unflatten(1, (1, 2, 2)), nn.ConvTranspose2d(1, 3, 2, stride=2), nn.ZeroPad2d((0, 1, 2, 0)), nn.Flatten()],
    ],
    ids=lambda layers: type(layers[-2]).__name__,
)
def test_layers_agree(layers, tmp_path):
    agree(Float32(*layers), X, tmp_path, tolerance=1e-6)


def gradient(module, x):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = module.linear(leaf).tanh().square().sum(1)
        (found,) = torch.autograd.grad(value.sum(), [leaf])
    return x - found


def gradient_of_a_convolution(module, x):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = module.convolution(leaf.float().reshape(-1, 1, 2, 2)).square().sum()
        (found,) = torch.autograd.grad(value, [leaf])
    return x - found


def branches_on_buffers(module, x):
    return x[:, : int(module.number)] if module.marks.any() else 2 * x


def changes_in_place(module, x):
    return (2 * x).masked_fill_(module.marks, 0)


def imputes_without_a_branch(module, x):
    return torch.where(x.isnan(), 0, x) if has_missing(x) else x


def conditional_mean(module, x):
    """Of a linear Gaussian model, given what is observed."""
    observed, matrix = ~x.isnan(), module.matrix
    products = (matrix[:, :, None] * matrix[:, None, :]).flatten(1)
    precision = (observed.to(x) @ products).reshape(-1, 3, 3) + torch.eye(3, dtype=x.dtype)
    factor = torch.linalg.cholesky(precision)
    shift = torch.where(observed, x, 0) @ matrix
    return torch.cholesky_solve(shift[:, :, None], factor)[:, :, 0]


def scaled_products(module, x):
    return torch.addmm(module.linear.bias, x, module.matrix @ module.matrix.T, beta=3, alpha=-2)


@pytest.mark.parametrize(
    "function",
    [
        scaled_products,
        gradient,
        gradient_of_a_convolution,
        branches_on_buffers,
        changes_in_place,
        imputes_without_a_branch,
        conditional_mean,
    ],
)
def test_functions_agree(function, tmp_path):
    samples = X.copy()
    if function in (imputes_without_a_branch, conditional_mean):
        samples[[0, 1, 1], [0, 1, 3]] = np.nan
        samples[2] = np.nan
    agree(Function(function), samples, tmp_path, tolerance=1e-6 if function is gradient_of_a_convolution else 1e-12)


def test_an_exported_module_is_not_changed(tmp_path):
    module = Function(gradient)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    exported(module, tmp_path / "graph.onnx")
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_graph_holds_each_constant_once_and_says_what_it_is(tmp_path):
    shared = nn.Linear(4, 4)
    exported(Float32(shared, nn.Tanh(), shared, nn.Tanh(), shared), tmp_path / "graph.onnx")
    graph = onnx.load(tmp_path / "graph.onnx").graph
    assert graph.doc_string == "a module"
    assert [constant.dims for constant in graph.initializer].count([4, 4]) == 1
    assert [end.name for end in (*graph.input, *graph.output)] == ["rows", "codes"]


@pytest.mark.parametrize(
    "function",
    [lambda _, x: x if x.sum() > 0 else 2 * x, lambda _, x: x.cumsum(1), lambda _, x: torch.sub(x, x * x, alpha=2)],
    ids=["a branch on values", "an operation without a translation", "an option without a translation"],
)
def test_what_cannot_be_exported_is_an_error(function, tmp_path):
    with pytest.raises((NotImplementedError, RuntimeError)):
        exported(Function(function), tmp_path / "graph.onnx")
    assert not (tmp_path / "graph.onnx").exists()


class Estimator:
    """What `to_onnx` needs of an estimator."""

    def __init__(self, module, encoder=None):
        self.module, self.encoder = module, encoder

    def exported_part(self, part):
        names = {"encoder": ("rows", "codes"), "decoder": ("codes", "rows"), "autoencoder": ("rows", "reconstruction")}
        return self.module, *([GraphColumn(name, 4)] for name in names[part])


@pytest.mark.parametrize(
    ("part", "ends"),
    [("encoder", ("rows", "codes")), ("decoder", ("codes", "rows")), ("autoencoder", ("rows", "reconstruction"))],
)
def test_parts_name_their_input_and_output(part, ends, tmp_path):
    to_onnx(Estimator(Float32(nn.Linear(4, 2))), tmp_path / "graph.onnx", part)
    graph = onnx.load(tmp_path / "graph.onnx").graph
    assert (graph.input[0].name, graph.output[0].name) == ends
    assert graph.doc_string.startswith(f"{part} of a Estimator, by skae ")


def test_only_parts_of_estimators_are_exported(tmp_path):
    with pytest.raises(
        ValueError, match=r"part='middle' is not known\. Use one of 'encoder', 'decoder', 'autoencoder'"
    ):
        to_onnx(Estimator(nn.Identity()), tmp_path / "graph.onnx", "middle")
    with pytest.raises(TypeError, match="Linear is no estimator of skae"):
        to_onnx(nn.Linear(4, 2), tmp_path / "graph.onnx")


def test_an_own_module_that_cannot_be_exported_is_named(tmp_path):
    bad = Function(lambda _, x: x.cumsum(1))
    with pytest.raises(ValueError, match=r"The encoder cannot be exported: .*Its encoder must be made of layers"):
        to_onnx(Estimator(bad, encoder=bad), tmp_path / "graph.onnx")
    with pytest.raises(NotImplementedError, match="cumsum"):
        to_onnx(Estimator(bad), tmp_path / "graph.onnx")


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        to_onnx(Estimator(Float32(nn.Linear(4, 2)), encoder=nn.Linear), tmp_path / "nowhere" / "graph.onnx")
