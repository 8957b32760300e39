"""The nets: a linear map, a nonlinear correction that starts at zero, and the autoencoder made of two of them.

Torch only: no numpy, no scikit-learn. Every module here draws its start from the generator it is given and leaves
the global one alone.
"""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


# Pixels on a side of the patches that images are made of, and channels of the convolutions over these.
_PATCH, _CHANNELS = 4, 32
# A step of `descend` counts in full if it takes this share off a row's error, or this many nats.
_WORTHWHILE = 0.01
# Variances that float32 has, and their inverses.
_FLOAT32 = 1e-37, 1e37
# Whether what is computed with has no gaps, for all that is known.
_IS_COMPLETE = ContextVar("is_complete", default=False)


def linear(n_in: int, n_out: int, generator: torch.Generator, fan_in: int | None = None) -> nn.Linear:
    """A linear layer, its weights and bias uniform within +-1 / sqrt(n_in): torch's own start, from ``generator``.

    ``fan_in`` stands for n_in where fewer inputs are ever other than zero.
    """
    layer = nn.Linear(n_in, n_out, device="meta")  # which leaves the global generator alone
    draw(layer, fan_in or n_in, generator)
    return layer


def convolution(n_in: int, n_out: int, kernel_size: int, generator: torch.Generator) -> nn.Conv2d:
    """A convolution that keeps height and width, its start drawn as that of `linear`."""
    layer = nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2, device="meta")
    draw(layer, n_in * kernel_size**2, generator)
    return layer


def draw(layer: nn.Module, fan_in: int, generator: torch.Generator) -> None:
    """Give a layer without memory its weights and bias."""
    bound = fan_in**-0.5
    for name, parameter in list(layer.named_parameters()):
        values = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        setattr(layer, name, nn.Parameter(values))


@contextmanager
def complete(are_complete: bool) -> Iterator[None]:
    """Look for no gaps inside the block, if rows are known to have none: the host would wait for the device."""
    token = _IS_COMPLETE.set(are_complete)
    try:
        yield
    finally:
        _IS_COMPLETE.reset(token)


def has_gaps(x: Tensor) -> bool:
    """Whether any entry is nan: missing."""
    return not _IS_COMPLETE.get() and bool(x.sum().isnan())


def given_observed(x: Tensor, loadings: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""The posterior of z in x = loadings @ z + noise, given the entries of rows that are not nan.

    .. math:: z \,|\, x_o \sim N(P^{-1} W_o' \Psi_o^{-1} x_o, P^{-1}), \quad P = I + W_o' \Psi_o^{-1} W_o

    Returns
    -------
    mean : Tensor of shape (n, n_components)
    factor : Tensor of shape (n, n_components, n_components)
        The lower Cholesky factor of P.
    """
    observed, dtype = ~x.isnan(), x.dtype
    n_components = loadings.shape[1]
    x, noise = x.double(), noise.double()  # P has ones beside inverses of little noise
    weighted = loadings / noise[:, None]
    products = (weighted[:, :, None] * loadings[:, None, :]).flatten(1)
    precision = (observed.to(x) @ products).reshape(-1, n_components, n_components)
    precision.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(precision)
    mean = torch.cholesky_solve((torch.where(observed, x, 0) @ weighted)[:, :, None], factor)[:, :, 0]
    return mean.to(dtype), factor.to(dtype)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """weight @ x + bias of each row; of each level's rows, if there is one map a level."""
    if weight.ndim == 2:
        return nn.functional.linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)


class StackedLinear(nn.Module):
    """A linear layer for each of some levels, all in one product.

    Shape
    -----
    (n_levels, n, n_in) -> (n_levels, n, n_out)
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.in_features, self.out_features = layers[0].in_features, layers[0].out_features
        self.weight = nn.Parameter(torch.stack([layer.weight for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias for layer in layers]))

    def at(self, level: int) -> nn.Linear:
        """The layer of one level, which shares these weights."""
        layer = nn.Linear(self.in_features, self.out_features, device="meta")
        layer.weight, layer.bias = nn.Parameter(self.weight[level]), nn.Parameter(self.bias[level])
        return layer

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


def stacked_linear(fan_ins: Sequence[int], n_in: int, n_out: int, generator: torch.Generator) -> StackedLinear:
    """`linear` for each level, of which only so many inputs are ever other than zero."""
    return StackedLinear([linear(n_in, n_out, generator, fan_in) for fan_in in fan_ins])


class MLP(nn.Sequential):
    """Linear layers with an activation between any two.

    Parameters
    ----------
    widths : sequence of int
        Input, hidden and output widths.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights.
    levels : sequence of int, default=()
        If any, there is a net for each, which sees so many of the inputs, the others being zero.

    Shape
    -----
    (n, widths[0]) -> (n, widths[-1]), with levels before n

    Examples
    --------
    >>> MLP([3, 8, 2], "relu", torch.Generator())
    MLP(
      (0): Linear(in_features=3, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """

    def __init__(
        self, widths: Sequence[int], activation: str, generator: torch.Generator, levels: Sequence[int] = ()
    ) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            if levels:
                layers.append(stacked_linear([n_in] * len(levels) if layers else levels, n_in, n_out, generator))
            else:
                layers.append(linear(n_in, n_out, generator))
            layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers[:-1])

    def at(self, level: int) -> Headed:
        """The net of one level, which shares these weights."""
        layers = [layer.at(level) if isinstance(layer, StackedLinear) else layer for layer in self]
        head = layers.pop()
        assert isinstance(head, nn.Linear)
        return Headed(nn.Sequential(*layers), head)

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)


def grid_of(feature_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Patches of an image from top to bottom and from left to right, the last ones over its edge where need be."""
    _, height, width = feature_shape
    return -(-height // _PATCH), -(-width // _PATCH)


class ImageEncoder(nn.Module):
    """Dense layers on a convolution of patches: flat images in, numbers out.

    The image is cut into patches of 4 x 4 pixels, zeros over its edge, whose numbers are the channels of a 3 x 3
    convolution; its 32 channels, of all patches, are what the dense layers begin with.

    Parameters
    ----------
    feature_shape : tuple of int
        Channels, height and width of the image.
    widths : sequence of int
        Of the dense layers, the output last.
    activation : str
        A key of ``ACTIVATIONS``, after every layer but the last.
    generator : torch.Generator
        Source of the initial weights.

    Shape
    -----
    (n, channels * height * width) -> (n, widths[-1])
    """

    def __init__(
        self, feature_shape: tuple[int, int, int], widths: Sequence[int], activation: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.feature_shape = feature_shape
        channels, height, width = feature_shape
        rows, columns = grid_of(feature_shape)
        self.features = nn.Sequential(
            nn.ZeroPad2d((0, -width % _PATCH, 0, -height % _PATCH)),
            nn.PixelUnshuffle(_PATCH),
            convolution(channels * _PATCH**2, _CHANNELS, 3, generator),
            ACTIVATIONS[activation](),
            nn.Flatten(),
        )
        self.dense = MLP([_CHANNELS * rows * columns, *widths], activation, generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.features(x.reshape(-1, *self.feature_shape)))

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        self.dense.silence()


class ImageDecoder(nn.Module):
    """Convolutions of what dense layers make of a code: numbers in, flat images out.

    The dense layers end in 32 channels of each patch of 4 x 4 pixels. A 3 x 3 convolution lets neighbours agree, and
    one more layer, the same everywhere, gives a patch its pixels (sub-pixel convolution, Shi et al. 2016,
    arXiv:1609.05158), of which those over the image's edge are cut off.

    Parameters
    ----------
    feature_shape : tuple of int
        Channels, height and width of the image.
    widths : sequence of int
        Of the dense layers, the input first.
    n_images : int
        Images of this shape that are decoded at once, such as a mean and a variance.
    activation, generator
        As `ImageEncoder` has them.
    levels : sequence of int, default=()
        If any, there are dense layers for each, as `MLP` has them, and convolutions that all share.

    Shape
    -----
    (n, widths[0]) -> (n, n_images * channels * height * width), with levels before n
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        widths: Sequence[int],
        n_images: int,
        activation: str,
        generator: torch.Generator,
        levels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.feature_shape = feature_shape
        self.grid = grid_of(feature_shape)
        n_features = _CHANNELS * self.grid[0] * self.grid[1]
        self.dense: nn.Module = MLP([*widths, n_features], activation, generator, levels)
        self.convolutions = nn.Sequential(
            ACTIVATIONS[activation](),
            convolution(_CHANNELS, _CHANNELS, 3, generator),
            ACTIVATIONS[activation](),
            convolution(_CHANNELS, n_images * feature_shape[0] * _PATCH**2, 1, generator),
            nn.PixelShuffle(_PATCH),
        )

    def at(self, level: int) -> ImageDecoder:
        """The decoder of one level, which shares these weights."""
        assert isinstance(self.dense, MLP)
        one = copy.copy(self)
        one._modules = self._modules | {"dense": self.dense.at(level)}
        return one

    def forward(self, z: Tensor) -> Tensor:
        features = self.dense(z).reshape(-1, _CHANNELS, *self.grid)
        _, height, width = self.feature_shape
        return self.convolutions(features)[..., :height, :width].reshape(*z.shape[:-1], -1)

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        for parameter in self.convolutions[-2].parameters():
            nn.init.zeros_(parameter)


class Gated(nn.Module):
    """gate * module(x): one gate an output, each starting at zero, so that any module starts as no correction.

    With levels each has gates of its own, and one module serves all.

    Shape
    -----
    (n, n_in) -> (n, n_out), with levels before n
    """

    def __init__(self, module: nn.Module, n_out: int, n_levels: int = 0) -> None:
        super().__init__()
        self.module = module
        self.gate = nn.Parameter(torch.zeros((n_levels, n_out) if n_levels else n_out))

    def at(self, level: int) -> Gated:
        """That of one level, which shares the module and these gates."""
        gated = Gated(self.module, self.gate.shape[-1])
        gated.gate = nn.Parameter(self.gate[level])
        return gated

    def silence(self) -> None:
        """Close the gates."""
        nn.init.zeros_(self.gate)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return self.gate * self.module(x)
        return self.gate.unsqueeze(-2) * self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Headed(nn.Sequential):
    """head(features(x)): a linear layer on top of a module of any width.

    With a `StackedLinear` head, there is one for each level on top of one module.

    Shape
    -----
    (n, n_in) -> (n, head.out_features), with levels before n
    """

    def __init__(self, features: nn.Module, head: nn.Linear | StackedLinear) -> None:
        super().__init__(features, head)

    def at(self, level: int) -> Headed:
        """That of one level, which shares the module and this head."""
        features, head = self
        assert isinstance(head, StackedLinear)
        return Headed(features, head.at(level))

    def forward(self, x: Tensor) -> Tensor:
        features, head = self
        return head(features(x) if x.ndim == 2 else features(x.flatten(0, 1)).unflatten(0, x.shape[:2]))

    def silence(self) -> None:
        """Set the head, and so the output, to zero."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)


Correction: TypeAlias = MLP | ImageEncoder | ImageDecoder | Gated | Headed


@torch.no_grad()
def ignore_second_half(corrected: nn.Module) -> None:
    """Let the second half of inputs of a `CorrectedLinear` begin without weights.

    Those that never vary in training, such as masks of columns without gaps, then never count.
    """
    assert isinstance(corrected, CorrectedLinear)
    layers = [m for m in (corrected.correction or nn.Identity()).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in (corrected.path, *layers[:1]):
        layer.weight[:, layer.weight.shape[1] // 2 :] = 0


class CorrectedLinear(nn.Module):
    r"""A_0 x + b_0 + s * (W u + c + f(u)), u = clip(x) / r: a linear start, and what training adds to it.

    :math:`A_0` and :math:`b_0` stay as they start; W and c, the linear ``path``, and f, the nonlinear ``correction``,
    are trained, from zero on if there is a start. They are told in units that the start decides: ``r`` of inputs, ``s``
    of outputs. A step of the optimiser, the same for all weights, is then of one size beside what the start leaves
    unexplained, however small that is beside the data. They see inputs clipped to a range, that of the rows they learn
    from: beyond it, where nothing has told them what to add, the map goes on as the start does.

    A random start has :math:`A_0 = 0`, all units 1 and no bounds.

    With a `StackedLinear` path there is one such map for each level, with output units of its own; ranges and input
    units are shared.

    Parameters
    ----------
    path : nn.Linear or StackedLinear
    correction : MLP, ImageEncoder, ImageDecoder, Gated, Headed or None

    Shape
    -----
    (n, n_in) -> (n, n_out), with levels before n
    """

    start_weight: Tensor
    start_bias: Tensor
    per_input: Tensor
    unit: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, path: nn.Linear | StackedLinear, correction: Correction | None = None) -> None:
        super().__init__()
        self.path = path
        self.correction = correction
        self.register_buffer("start_weight", torch.zeros_like(path.weight))
        self.register_buffer("start_bias", torch.zeros_like(path.bias))
        self.register_buffer("per_input", torch.ones(path.in_features))
        self.register_buffer("unit", torch.ones_like(path.bias))
        self.register_buffer("low", torch.full((path.in_features,), -torch.inf))
        self.register_buffer("high", torch.full((path.in_features,), torch.inf))

    @torch.no_grad()
    def start_at(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        input_unit: Tensor | float = 1.0,
        unit: Tensor | float = 1.0,
        input_range: Tensor | None = None,
    ) -> None:
        """Make this exactly the linear map ``weight @ x + bias`` (bias zero if None), with these units and range."""
        self.start_weight.copy_(weight)
        self.start_bias.zero_() if bias is None else self.start_bias.copy_(bias)
        self.per_input.copy_(1 / torch.as_tensor(input_unit))
        self.unit.copy_(torch.as_tensor(unit))
        if input_range is not None:
            self.low.copy_(input_range[0])
            self.high.copy_(input_range[1])
        for parameter in self.path.parameters():
            nn.init.zeros_(parameter)
        if self.correction is not None:
            self.correction.silence()

    def linear_map(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the linear part, inside the range."""
        weight = self.start_weight + self.unit.unsqueeze(-1) * self.path.weight * self.per_input
        return weight, self.start_bias + self.unit * self.path.bias

    def at(self, level: int) -> CorrectedLinear:
        """The map of one level, which shares these weights."""
        assert isinstance(self.path, StackedLinear)
        assert not isinstance(self.correction, ImageEncoder)  # encoders have no levels
        one = CorrectedLinear(self.path.at(level), None if self.correction is None else self.correction.at(level))
        one.start_weight, one.start_bias = self.start_weight[level], self.start_bias[level]
        one.per_input, one.unit, one.low, one.high = self.per_input, self.unit[level], self.low, self.high
        return one

    def forward(self, x: Tensor) -> Tensor:
        start = affine(x, self.start_weight, self.start_bias)
        u = x.clamp(self.low, self.high) * self.per_input
        change = self.path(u) if self.correction is None else self.path(u) + self.correction(u)
        return start + self.unit.unsqueeze(-2) * change


class Completion(nn.Module):
    r"""Fills gaps of rows for an encoder, with what a normal model expects there, given the rest of the row.

    .. math:: x = \mu + W z + \epsilon, \quad z \sim N(0, I), \; \epsilon \sim N(0, \mathrm{diag}\, \psi)

    A code that is linear in the row is then what that model expects of it.

    Parameters
    ----------
    n_features, n_components : int
        Of the normal model, which until `start_at` fills with zeros.
    masked : bool, default=False
        Whether the encoder is told where rows were filled, by as many columns again.

    Shape
    -----
    (n, n_features), with nan in gaps -> what an encoder makes of (n, n_features or twice that)
    """

    location: Tensor
    loadings: Tensor
    noise: Tensor

    def __init__(self, n_features: int, n_components: int, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.register_buffer("location", torch.zeros(n_features))
        self.register_buffer("loadings", torch.zeros(n_features, n_components))
        self.register_buffer("noise", torch.ones(n_features))

    @torch.no_grad()
    def start_at(self, location: Tensor, loadings: Tensor, noise: Tensor) -> None:
        """Take this model, of as many components or fewer."""
        self.location.copy_(location)
        self.loadings.zero_()
        self.loadings[:, : loadings.shape[1]] = loadings
        self.noise.copy_(noise.clamp(*_FLOAT32))  # training is in that precision, and a posterior divides by this

    def fill(self, x: Tensor) -> Tensor:
        """Rows without gaps."""
        if not has_gaps(x):
            return x
        z, _ = given_observed(x - self.location, self.loadings, self.noise)
        return torch.where(x.isnan(), self.location + z @ self.loadings.mT, x)

    def forward(self, encoder: nn.Module, x: Tensor) -> Tensor:
        if self.masked:
            return encoder(torch.cat([self.fill(x), x.isnan().to(x)], dim=-1))
        out = encoder(x)
        # A gap goes through any layer, and what comes out has fewer numbers to look through.
        return encoder(self.fill(x)) if has_gaps(out) else out


def descend(
    objective: Callable[..., Tensor],
    direction: Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]],
    point: Sequence[Tensor],
    n_steps: int,
    worthwhile: Callable[[Tensor], Tensor],
) -> Sequence[Tensor]:
    r"""Points where the objective, of each row by itself, is lower.

    A row has its own step along the direction, a full one at first, that shrinks after one that did not help. That one
    is not taken, and one that hardly helped only in part, so that rounding cannot decide between two points.

    Parameters
    ----------
    objective : callable (\*point) -> Tensor of shape (n,)
    direction : callable (point, gradients) -> tensors like point
        Where to go from a point.
    point : sequence of Tensor of shape (n, k)
    n_steps : int
    worthwhile : callable
        From the objective to the gain by which a step is taken in full.
    """

    def at(point: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            leaves = [p.detach().requires_grad_() for p in point]
            value = objective(*leaves)
            gradients = torch.autograd.grad(value.sum(), leaves)
        with torch.no_grad():
            return value.detach()[:, None], list(direction(leaves, gradients))

    point = [p.detach() for p in point]  # no gradient can follow the way from here on
    value, move = at(point)
    step = torch.ones_like(value)
    for left in reversed(range(n_steps)):
        proposal = [p + step * m for p, m in zip(point, move, strict=True)]
        if left:
            new_value, new_move = at(proposal)
        else:  # from here no step goes on
            with torch.no_grad():
                new_value, new_move = objective(*proposal)[:, None], move
        taken = ((value - new_value) / worthwhile(value)).nan_to_num(0.0).clamp(0, 1)

        def towards(old: Tensor, new: Tensor, taken: Tensor = taken) -> Tensor:
            return torch.where(taken > 0, old.lerp(new, taken), old)

        point = [towards(p, q) for p, q in zip(point, proposal, strict=True)]
        move = [towards(m, new) for m, new in zip(move, new_move, strict=True)]
        value = towards(value, new_value)
        step = step * torch.lerp(torch.full_like(taken, 0.25), torch.full_like(taken, 1.2), taken)
    return point


def project(decoder: nn.Module, x: Tensor, z: Tensor, n_steps: int) -> Tensor:
    r"""Codes nearer to those whose decoded rows are nearest to ``x`` in squared error, by descent from ``z``.

    .. math:: z \leftarrow z - t\, (A_0' A_0)^{-1} J' (g(z) - x)

    with g the decoder, J its Jacobian at z and A_0 its linear start, whose columns must be orthogonal, as PCA's are:
    where g is linear, one step is the orthogonal projection. A component whose column is zero stays.

    Shape
    -----
    x: (n, n_features), z: (n, n_components) -> (n, n_components)
    """
    lengths = decoder.get_buffer("start_weight").square().sum(0)
    inverse = torch.where(lengths > 0, 1 / lengths, 0)
    (z,) = descend(
        lambda z: (decoder(z) - x).square().sum(1),
        lambda _, gradients: [-0.5 * gradients[0] * inverse],
        [z],
        n_steps,
        worthwhile=lambda error: _WORTHWHILE * error,
    )
    return z


class AutoencoderOutput(NamedTuple):
    """The code ``z`` (n, n_components) and the decoder's output ``eta`` (n, n_features)."""

    z: Tensor
    eta: Tensor


class Autoencoder(nn.Module):
    """z = encoder(x), eta = decoder(z); in eval mode, if asked, z is then brought to where eta is nearest to x.

    Parameters
    ----------
    encoder, decoder : nn.Module
    completion : Completion
    n_refinements : int, default=0
        Steps of `project` in eval mode, for filled rows. Training needs none: the encoder learns where they lead.

    Shape
    -----
    encode: (n, n_features) -> (n, n_components); decode: back.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, completion: Completion, n_refinements: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.completion = completion
        self.n_refinements = n_refinements

    def encode(self, x: Tensor) -> Tensor:
        z = self.completion(self.encoder, x)
        if self.training or not self.n_refinements:
            return z
        return project(self.decoder, self.completion.fill(x), z, self.n_refinements)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor) -> AutoencoderOutput:
        z = self.encode(x)
        return AutoencoderOutput(z, self.decode(z))


class OrderedOutput(NamedTuple):
    """The code ``z`` (n, n_components), and of each level ``eta`` (n_levels, n, n_features), ``weight`` (.., n, 1)."""

    z: Tensor
    eta: Tensor
    weight: Tensor


def doubling_levels(n_components: int) -> tuple[int, ...]:
    """1, 2, 4, ... and n_components.

    Examples
    --------
    >>> doubling_levels(12)
    (1, 2, 4, 8, 12)
    """
    levels = [1]
    while 2 * levels[-1] < n_components:
        levels.append(2 * levels[-1])
    return tuple(levels) if n_components == 1 else (*levels, n_components)


class Levels(nn.Module):
    """A decoder for each of some levels: the first m numbers of a code are a code of m numbers.

    The decoder of a level takes as many numbers as the level says, or fewer, further ones set to zero, down to those of
    the level below.

    Parameters
    ----------
    decoder : CorrectedLinear
        One map a level, from n_components numbers.
    levels : tuple of int
        Increasing, from 1 to n_components.

    Shape
    -----
    decode: (n, any number up to n_components) -> (n, n_out).
    """

    def __init__(self, decoder: CorrectedLinear, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder = decoder
        self.levels = levels

    def decoder_of(self, size: int) -> CorrectedLinear:
        """The decoder of codes of this size: that of the least level with room for it."""
        return self.decoder.at(bisect_left(self.levels, size))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder_of(z.shape[1])(nn.functional.pad(z, (0, self.levels[-1] - z.shape[1])))

    def outputs(self, z: Tensor, sizes: Tensor) -> Tensor:
        """Of each level, rows decoded from their first so many numbers."""
        kept = torch.arange(z.shape[-1], device=z.device) < sizes.unsqueeze(-1)
        return self.decoder(z * kept)

    def sizes(self, device: torch.device) -> Tensor:
        """(n_levels, 1)"""
        return torch.tensor(self.levels).to(device, non_blocking=True)[:, None]

    def trained_sizes(self, counts: Tensor) -> Tensor:
        """(n_levels, n): of each fourth count, the sizes down to the level below in turn; of others the level."""
        level = self.sizes(counts.device)
        between = level.diff(dim=0, prepend=torch.zeros_like(level[:1])) - 1
        cut = level - 1 - (counts // 4) % between.clamp_min(1)
        return torch.where((counts % 4 == 0) & (between > 0), cut, level)


class OrderedAutoencoder(Levels):
    r"""One encoder and a decoder for each of some levels.

    Training cuts a quarter of the rows of a batch to fewer numbers than the level has, and evaluation none (nested
    dropout, Rippel et al. 2014, arXiv:1402.0915, with the sizes that matter seen by all rows).

    In eval mode, if asked, a code is brought to where the outputs of all levels together are nearest to the row,

    .. math:: \min_z \sum_m w_m \, \lVert g_m(z_{1:m}) - x \rVert^2

    by steps along the gradient, divided by this sum's curvature at PCA.

    Parameters
    ----------
    encoder : nn.Module
    decoder, levels
        As `Levels` has them.
    completion : Completion
    n_refinements : int, default=0
        Steps in eval mode, for filled rows.

    Attributes
    ----------
    weights : Tensor of shape (n_components,)
        What an error counts, of codes cut to each size.

    Shape
    -----
    encode: (n, n_features) -> (n, n_components); decode: (n, any number up to that) -> (n, n_features).
    """

    weights: Tensor
    n_rows_seen: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: CorrectedLinear,
        levels: tuple[int, ...],
        completion: Completion,
        n_refinements: int = 0,
    ) -> None:
        super().__init__(decoder, levels)
        self.encoder = encoder
        self.completion = completion
        self.n_refinements = n_refinements
        self.register_buffer("weights", torch.ones(levels[-1]))
        self.register_buffer("n_rows_seen", torch.zeros((), dtype=torch.long))  # in training

    def encode(self, x: Tensor) -> Tensor:
        z = self.completion(self.encoder, x)
        if self.training or not self.n_refinements:
            return z
        x, sizes = self.completion.fill(x), self.sizes(z.device)
        weights = self.weights[sizes - 1]
        curvature = (weights * self.decoder.start_weight.square().sum(1)).sum(0)
        inverse = torch.where(curvature > 0, 1 / curvature, 0)
        (z,) = descend(
            lambda z: (weights * (self.outputs(z, sizes) - x).square().sum(2)).sum(0),
            lambda _, gradients: [-0.5 * gradients[0] * inverse],
            [z],
            self.n_refinements,
            worthwhile=lambda error: _WORTHWHILE * error,
        )
        return z

    def forward(self, x: Tensor) -> OrderedOutput:
        z = self.encode(x)
        sizes = self._next_sizes(len(z)) if self.training else self.sizes(z.device)
        return OrderedOutput(z, self.outputs(z, sizes), self.weights[sizes - 1].unsqueeze(-1))

    def _next_sizes(self, n_rows: int) -> Tensor:
        """(n_levels, n_rows): rows are in no order."""
        counts = self.n_rows_seen + torch.arange(n_rows, device=self.n_rows_seen.device)
        self.n_rows_seen += n_rows
        return self.trained_sizes(counts)


class Posterior(NamedTuple):
    """The normal q(z | x): ``mean`` and ``log_var``, both (n, n_components)."""

    mean: Tensor
    log_var: Tensor


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_var)) || N(0, I)) of each component, in nats: (mean^2 + var - log var - 1) / 2."""
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1)


class VAEOutput(NamedTuple):
    """``mean`` and ``log_var`` of the posterior, and draws ``z`` (n_draws, n, n_components) with their ``eta``.

    ``given`` (n, n_given) is what the model is conditional on, or None.
    """

    mean: Tensor
    log_var: Tensor
    z: Tensor
    eta: Tensor
    given: Tensor | None = None


class VAE(nn.Module):
    r"""q(z | x) = N(mean, diag exp(log_var)), p(x | z) = likelihood(decoder(z)), p(z) = N(0, I).

    In eval mode, if asked, the encoder's q is a row's first guess, and steps along the natural gradient of its bound,
    in each row's own mean and log-variance, bring it nearer to the best there is (Kim et al. 2018, arXiv:1802.02550;
    Amari 1998). Where the decoder is linear and q the posterior, they stay there.

    Parameters
    ----------
    encoder : nn.Module
        n_features and n_given to 2 n_components columns: means, then log-variances.
    decoder : nn.Module
        n_components and n_given to n_features columns.
    likelihood : nn.Module
    completion : Completion
    draws : Tensor of shape (n_draws, 1, n_components) or None, default=None
        Noise that estimates the bound in these steps.
    n_refinements : int, default=0
        How many steps. The likelihood must be one of the encoder's own inputs, not of rows before a link.
    defence : nn.Module or None, default=None
        (bound, row) -> bound of the whole model, which leaves a share of its density to others; held, not called here.
    n_given : int, default=0
        How many last columns of x the model is conditional on, p(x | z, y): they reach the encoder with the row and the
        decoder beside a code (Sohn, Lee and Yan 2015, "Learning structured output representation using deep conditional
        generative models").

    Shape
    -----
    encode: (n, n_features + n_given) -> (n, n_components), the posterior mean; decode: (n, n_components + n_given) ->
    (n, n_features).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: nn.Module,
        completion: Completion,
        draws: Tensor | None = None,
        n_refinements: int = 0,
        defence: nn.Module | None = None,
        n_given: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.completion = completion
        self.decoder = decoder
        self.likelihood = likelihood
        self.defence = defence
        self.draws = torch.empty(0) if draws is None else draws  # no buffer: training's float32 would round it
        self.n_refinements = n_refinements
        self.n_given = n_given

    def guess(self, x: Tensor) -> Posterior:
        """The encoder's own q."""
        return Posterior(*self.completion(self.encoder, x).chunk(2, dim=-1))

    def posterior(self, x: Tensor) -> Posterior:
        q = self.guess(x)
        if self.training or not self.n_refinements:
            return q

        draws, rows = self.draws.to(x), x[:, : x.shape[1] - self.n_given]

        def cost(mean: Tensor, log_var: Tensor) -> Tensor:
            eta = self._decode_draws(self.beside_given(mean + (log_var / 2).exp() * draws, x))
            return gaussian_kl(mean, log_var).sum(1) - self.likelihood(eta, rows).mean(0)

        def natural(q: Sequence[Tensor], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
            return [-q[1].exp() * gradients[0], (-2 * gradients[1]).clamp(-1, 1)]

        def worthwhile(cost: Tensor) -> Tensor:
            rounding = 16 * torch.finfo(cost.dtype).eps * cost.abs()
            return rounding.clamp_min(_WORTHWHILE)

        refined = descend(cost, natural, q, self.n_refinements, worthwhile)
        return Posterior(*refined)

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor, noise: Tensor) -> VAEOutput:
        """With ``noise`` (n_draws, n or 1, n_components) of standard normal draws."""
        q = self.posterior(x)
        z = q.mean + (q.log_var / 2).exp() * noise
        given = x[:, -self.n_given :] if self.n_given else None
        return VAEOutput(q.mean, q.log_var, z, self._decode_draws(self.beside_given(z, x)), given)

    def beside_given(self, z: Tensor, x: Tensor) -> Tensor:
        """Codes (..., n, n_components) with the columns of x that the model is conditional on."""
        if not self.n_given:
            return z
        return torch.cat([z, x[:, -self.n_given :].expand(*z.shape[:-1], -1)], dim=-1)

    def _decode_draws(self, z: Tensor) -> Tensor:
        return self.decode(z.flatten(0, 1)).reshape(*z.shape[:2], -1)


class LeadingVAE(VAE):
    """The `VAE` of the leading numbers of a code, as many as ``draws`` has, of an encoder and a decoder of more.

    The encoder's means are multiplied by ``shrinking``, and to its log-variances ``widening`` is added, both
    (n_components,).
    """

    def __init__(self, shrinking: Tensor, widening: Tensor, *args: Any) -> None:
        super().__init__(*args)
        self.shrinking, self.widening = shrinking, widening

    def guess(self, x: Tensor) -> Posterior:
        return self.leading(super().guess(x))

    def leading(self, q: Posterior) -> Posterior:
        """Make the q of this model of the encoder's."""
        mean, log_var = (part[:, : self.draws.shape[-1]] for part in q)
        return Posterior(mean * self.shrinking, log_var + self.widening)

    def decode(self, z: Tensor) -> Tensor:
        n_components = self.decoder.get_buffer("low").shape[0]
        return super().decode(nn.functional.pad(z, (0, n_components - z.shape[1])))


class OrderedVAE(Levels):
    """A variational autoencoder of each size, all with the leading numbers of one encoder's q: a nested bound.

    Sizes have a likelihood each, since what a smaller code leaves is noise to it, and with more noise a q is nearer to
    the prior: ``shrinking`` and ``widening`` (n_components, n_components), of each size, are what means are multiplied
    by and what is added to log-variances. Every fourth step of training cuts the codes of each level to a size between
    it and the level below.

    Parameters
    ----------
    encoder : nn.Module
        n_features to 2 n_components columns: means, then log-variances.
    decoder, levels
        As `Levels` has them.
    likelihoods : sequence of nn.Module
        Of each size from 1 to n_components.
    completion : Completion
    n_refinements
        As in `VAE`: each size has its own, with `sign_draws`.
    defences : sequence of nn.Module or None, default=None
        Of each level; a size between levels has that of the level below.

    Shape
    -----
    encode: (n, n_features) -> (n, n_components), the posterior mean of the largest size; decode: (n, any number up to
    that) -> (n, n_out).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: CorrectedLinear,
        levels: tuple[int, ...],
        likelihoods: Sequence[nn.Module],
        completion: Completion,
        n_refinements: int = 0,
        defences: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__(decoder, levels)
        self.encoder = encoder
        self.completion = completion
        self.likelihoods = nn.ModuleList(likelihoods)
        self.defences = None if defences is None else nn.ModuleList(defences)
        self.shrinking = nn.Parameter(torch.ones(levels[-1], levels[-1]))
        self.widening = nn.Parameter(torch.zeros(levels[-1], levels[-1]))
        self.n_refinements = n_refinements
        self.n_steps_seen = 0  # in training

    @torch.no_grad()
    def begin_at(self, size: int, shrinking: Tensor, widening: Tensor) -> None:
        """Let the q of this size begin nearer to the prior than that of the largest."""
        self.shrinking[size - 1, :size] = shrinking
        self.widening[size - 1, :size] = widening

    def at(self, size: int) -> LeadingVAE:
        """The model of codes of this size, which shares these weights."""
        model = LeadingVAE(
            self.shrinking[size - 1, :size],
            self.widening[size - 1, :size],
            self.encoder,
            self.decoder_of(size),
            self.likelihoods[size - 1],
            self.completion,
            sign_draws(size),
            self.n_refinements,
            None if self.defences is None else self.defences[bisect_right(self.levels, size) - 1],
        )
        return model.train(self.training)

    def guess(self, x: Tensor) -> Posterior:
        """The encoder's q, which those of all sizes are made of."""
        return Posterior(*self.completion(self.encoder, x).chunk(2, dim=-1))

    def encode(self, x: Tensor) -> Tensor:
        return self.at(self.levels[-1]).encode(x)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """What makes a `VAEOutput` of each level, the largest first.

        With ``noise`` (n_draws, n or 1, n_components), one draw in training. In eval mode a level has draws of its own
        in place of more.
        """
        return tuple(part for output in reversed(self._of_levels(x, noise)) for part in output[:4])

    def _of_levels(self, x: Tensor, noise: Tensor) -> list[VAEOutput]:
        if not self.training:
            models = map(self.at, self.levels)
            return [m(x, min(noise[..., : m.draws.shape[-1]], m.draws.to(x), key=len)) for m in models]
        mean, log_var = self.guess(x)
        numbers = self.trained_sizes(torch.tensor([self.n_steps_seen]))
        sizes = numbers.to(x.device, non_blocking=True)
        self.n_steps_seen += 1
        means, log_vars = mean * self.shrinking[sizes - 1], log_var + self.widening[sizes - 1]
        z = means + (log_vars / 2).exp() * noise
        parts = zip(numbers.flatten().tolist(), means, log_vars, z, self.outputs(z, sizes), strict=True)
        return [VAEOutput(mean[:, :m], log_var[:, :m], z[None, :, :m], eta[None]) for m, mean, log_var, z, eta in parts]

    def get_extra_state(self) -> int:
        return self.n_steps_seen

    def set_extra_state(self, state: int) -> None:
        self.n_steps_seen = state


def fixed_draws(n_draws: int, n_components: int) -> Tensor:
    """Standard normal draws, always the same, with mean exactly zero and, if there are enough, identity covariance.

    Half of them are the other half mirrored. With ``n_draws >= 2 n_components`` the halves are made orthogonal, so that
    the mean of any quadratic function over the draws is its expectation.

    Shape
    -----
    (n_draws, 1, n_components), in float64; n_draws must be even.
    """
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(n_draws // 2, n_components, generator=generator, dtype=torch.float64)
    if len(half) >= n_components:
        u, _, v = torch.linalg.svd(half, full_matrices=False)
        half = u @ v * len(half) ** 0.5
    return torch.cat([half, -half])[:, None, :]


def sign_draws(n_components: int) -> Tensor:
    """Draws of -1 and 1, half of them the other half mirrored: few that do for standard normal ones.

    Eight, or as many as components, up to a power of two. Each component has mean zero and variance one over them,
    which is all that the bound of a linear Gaussian model asks for where the precision of its posterior is diagonal.
    Half as many components as draws are Walsh functions, and so uncorrelated; further ones are these times one more
    pattern, and correlated with some of the first by 1/2.

    Shape
    -----
    (n_draws, 1, n_components), in float64.
    """
    half = 4
    while 2 * half < n_components:
        half *= 2
    row, column = torch.arange(half)[:, None], torch.arange(n_components)[None, :]

    def parity(bits: Tensor) -> Tensor:
        for shift in (16, 8, 4, 2, 1):
            bits = bits ^ (bits >> shift)
        return bits & 1

    pattern = (column >= half) & (row & 3 == 3)
    signs = 1 - 2 * (parity(row & column % half) ^ pattern).double()
    return torch.cat([signs, -signs])[:, None, :]


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters in two lists: weights of the nonlinear part, which may be penalised, and the rest.

    The rest is every bias and scale (fewer than two dimensions) and the linear path of a `CorrectedLinear`.
    """
    free = {id(p) for m in _corrected(module) for p in m.path.parameters()}
    free |= {id(m.bias) for m in module.modules() if isinstance(m, StackedLinear)}
    free |= {id(m.gate) for m in module.modules() if isinstance(m, Gated)}
    free |= {id(p) for m in module.modules() if isinstance(m, OrderedVAE) for p in (m.shrinking, m.widening)}
    trainable = [p for p in module.parameters() if p.requires_grad]
    weights = [p for p in trainable if p.ndim > 1 and id(p) not in free]
    kept = {id(p) for p in weights}
    return weights, [p for p in trainable if id(p) not in kept]


def _corrected(module: nn.Module) -> Iterator[CorrectedLinear]:
    return (m for m in module.modules() if isinstance(m, CorrectedLinear))
