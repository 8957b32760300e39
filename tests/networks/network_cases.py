"""Networks as training may leave them, that the tests of networks share; all in float64."""

import torch

from skae.networks.autoencoder import Autoencoder
from skae.networks.corrected import CorrectedLinear
from skae.networks.halves import NetworkSpec
from skae.networks.images import ImageDecoder
from skae.networks.imputation import Imputer
from skae.networks.layers import MLP, Gated, Headed, linear, linear_at_levels
from skae.networks.preprocessing import Scaler
from skae.networks.vae import VAE
from skae.objectives import LIKELIHOODS, LOSSES

LEVELS = 1, 2, 4


def normal(generator, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def fill_at_random(module, generator, std=1.0):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return module


def unsilenced(n_in, n_out, generator, **start):
    """A corrected linear map with weights at random."""
    layer = CorrectedLinear(linear(n_in, n_out, generator), MLP([n_in, 7, n_out], "gelu", generator)).double()
    layer.start_at(normal(generator, n_out, n_in), **start)
    return fill_at_random(layer, generator, 0.3)


def reshaping(module):
    """A module that cannot take samples of several levels."""
    return torch.nn.Sequential(torch.nn.Unflatten(1, (1, 4)), torch.nn.Flatten(), module)


CORRECTIONS = {
    "none": lambda generator: None,
    "layers": lambda generator: MLP([4, 7, 5], "gelu", generator, LEVELS),
    "gate": lambda generator: Gated(MLP([4, 5], "gelu", generator), 5, 3),
    "head": lambda generator: Headed(reshaping(linear(4, 6, generator)), linear_at_levels([6] * 3, 6, 5, generator)),
    "image": lambda generator: ImageDecoder((1, 1, 5), [4, 7], 1, "gelu", generator, LEVELS),
}


def leveled(generator, correction):
    """A map at three levels, from 4 columns to 5, with units and a range."""
    path = linear_at_levels(LEVELS, 4, 5, generator)
    layer = CorrectedLinear(path, CORRECTIONS[correction](generator)).double()
    unit, input_unit = normal(generator, 3, 5).exp(), normal(generator, 4).exp()
    layer.start_at(normal(generator, 3, 5, 4), normal(generator, 3, 5), input_unit, unit, torch.tensor([[-1.0], [2.0]]))
    return layer


def ordered_decoder(generator, n_out, n_parameters=1):
    """A linear one of levels 1, 2, 4: orthogonal columns of several lengths, the last of them zero."""
    lengths = torch.tensor([3.0, 0.1, 1.0, 0.0], dtype=torch.float64)
    basis = torch.linalg.qr(normal(generator, n_out, 4))[0] * lengths
    kept = (torch.arange(4) < torch.tensor(LEVELS)[:, None]).double()[:, None]
    rest = torch.zeros(3, n_out * (n_parameters - 1), 4).double()
    decoder = CorrectedLinear(linear_at_levels(LEVELS, 4, n_out * n_parameters, generator)).double()
    decoder.start_at(torch.cat([basis * kept, rest], 1))
    return decoder, basis


def autoencoder(encoder, decoder, n_features, levels=(2,), n_refinements=0, **options):
    """An autoencoder of scaled samples."""
    options = {
        "scaler": Scaler(n_features),
        "imputer": Imputer(n_features, 4),
        "loss": LOSSES["squared_error"],
    } | options
    net = Autoencoder(encoder, decoder, levels, n_refinements=n_refinements, **options).double()
    if n_refinements:
        net.begin_steps()
    return net


def gaussian_vae(encoder, decoder, n_features=5, levels=(2,), n_refinements=0, n_context=0, **options):
    """A VAE of scaled samples with normal likelihoods."""
    n_sizes = levels[-1] if len(levels) > 1 else 1
    options = {
        "scaler": Scaler(n_features, per_column=True),
        "imputer": Imputer(n_features + n_context, 4),
        "likelihoods": [LIKELIHOODS["gaussian"](n_features) for _ in range(n_sizes)],
    } | options
    return VAE(encoder, decoder, levels, n_refinements=n_refinements, n_context=n_context, **options).double()


PARAMETERS = {
    "start": "pca",
    "ordered": False,
    "encoder": None,
    "decoder": None,
    "hidden_layer_sizes": (7, 6),
    "activation": "gelu",
    "feature_shape": None,
    "loss": "squared_error",
    "noise": 0.0,
    "sparsity": 0.0,
    "likelihood": "gaussian",
    "beta": 1.0,
}


def spec(n_features=5, n_components=2, n_context=0, has_missing=False, seed=0, **parameters):
    """What a network is built from, for an estimator with these parameters."""
    return NetworkSpec(PARAMETERS | parameters, n_features, n_context, n_components, has_missing, seed)


class Function(torch.nn.Module):
    """A module that is a function."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def assert_same(found, expected):
    """Compare tensors, and named tuples of them, that may be None."""
    for part, other in zip(found, expected, strict=True):
        if other is None:
            assert part is None
        else:
            torch.testing.assert_close(part, other)


def gradients(value, module):
    """The gradient of a value by each parameter that takes part in it."""
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
