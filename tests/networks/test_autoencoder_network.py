"""The autoencoder: one size of codes or several, refined codes, and the start at PCA, in units of X."""

import copy

import numpy as np
import pytest
import torch
from network_cases import (
    LEVELS,
    Function,
    autoencoder,
    fill_at_random,
    gradients,
    leveled,
    normal,
    ordered_decoder,
    spec,
    unsilenced,
)
from sklearn.decomposition import PCA

from skae.data.checks import SUPPORTS
from skae.data.rows import ArrayRows
from skae.data.tables import ArrayTable
from skae.linear.gaussian import LinearGaussian
from skae.linear.pca import pca_start
from skae.networks.autoencoder import Autoencoder
from skae.networks.corrected import CorrectedLinear
from skae.networks.halves import doubling_levels
from skae.networks.imputation import Imputer
from skae.networks.layers import MLP, linear, linear_at_levels
from skae.networks.preprocessing import Scaler
from skae.objectives import LOSSES

TABLE = ArrayTable("loss", "squared_error", SUPPORTS["real"])


@pytest.mark.parametrize("is_training", [False, True])
def test_one_level_is_an_encoder_and_a_decoder(is_training, generator):
    encoder, decoder, x = unsilenced(5, 2, generator), unsilenced(2, 5, generator), normal(generator, 9, 5)
    net = autoencoder(encoder, decoder, 5).train(is_training)
    output = net(x)
    assert torch.equal(output.z, encoder(x))
    assert torch.equal(output.eta, decoder(encoder(x)))
    assert output.weight is None
    loss, expected = net.objective()(output, x), (decoder(encoder(x)) - x).square().mean()
    torch.testing.assert_close(loss, expected)
    found, wanted = gradients(loss, net), gradients(expected, net)
    assert found.keys() == wanted.keys() == dict(net.named_parameters()).keys()
    torch.testing.assert_close(found, wanted)
    assert torch.equal(net.decode(output.z), output.eta)
    assert torch.equal(net.codes(x, 1), output.z[:, :1])


def test_one_level_refined_is_nearer_to_the_sample_but_not_in_training(generator):
    net = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5, n_refinements=4)
    x = normal(generator, 9, 5)
    assert torch.equal(net.train()(x).z, net.encoder(x))
    output = net.eval()(x)
    torch.testing.assert_close(output.eta, net.decoder(output.z))
    before = (net.decoder(net.encoder(x)) - x).square().sum(1)
    assert ((output.eta - x).square().sum(1) <= before).all()
    assert (output.z != net.encoder(x)).any()


def test_levels_double():
    assert [doubling_levels(n) for n in (1, 2, 3, 4, 8, 9)] == [
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 4),
        (1, 2, 4, 8),
        (1, 2, 4, 8, 9),
    ]


def sized(levels):
    """An autoencoder whose levels matter and nothing else."""
    return autoencoder(torch.nn.Identity(), torch.nn.Identity(), levels[-1], levels, imputer=Imputer(levels[-1], 1))


def test_every_fourth_sample_is_cut_to_the_sizes_between_levels_in_turn():
    sizes = sized((1, 2, 4, 8)).training_sizes(torch.arange(16))
    assert sizes.tolist() == [[1] * 16, [2] * 16, [3, 4, 4, 4] * 4, [k for cut in (7, 6, 5, 7) for k in (cut, 8, 8, 8)]]
    sizes = sized((1, 2, 4, 7)).training_sizes(torch.arange(12))
    assert sizes[-1].tolist() == [k for cut in (6, 5, 6) for k in (cut, 7, 7, 7)]
    assert sized((7,)).training_sizes(torch.arange(12)).tolist() == [[7]]  # components in no order are not cut


def test_a_cut_code_is_decoded_as_the_code_it_leaves(generator):
    decoder = fill_at_random(leveled(generator, "layers"), generator)
    net, z = autoencoder(torch.nn.Identity(), decoder, 5, LEVELS), normal(generator, 10, 4)
    for cut in ((1, 2, 3), LEVELS):
        outputs = net.outputs(z, torch.tensor(cut)[:, None])
        for output, size in zip(outputs, cut, strict=True):
            torch.testing.assert_close(output, net.decode(z[:, :size]))
    each = net.outputs(torch.stack([z, 2 * z, 3 * z]), torch.tensor(LEVELS)[:, None])  # codes for each level
    for i, size in enumerate(LEVELS):
        torch.testing.assert_close(each[i], net.decode((i + 1) * z[:, :size]))


@pytest.mark.parametrize(("size", "level"), [(1, 0), (2, 1), (3, 2), (4, 2)])
def test_a_size_is_decoded_by_the_smallest_level_that_holds_it(size, level, generator):
    decoder = fill_at_random(leveled(generator, "layers"), generator)
    net, z = autoencoder(torch.nn.Identity(), decoder, 5, LEVELS), normal(generator, 10, size)
    padded = torch.nn.functional.pad(z, (0, 4 - size))
    torch.testing.assert_close(net.decode(z), decoder.at(level)(padded))


def test_ordered_codes_are_brought_to_the_projection_and_levels_have_weights(generator):
    decoder, basis = ordered_decoder(generator, 6)
    encoder = linear(6, 4, generator).double()
    torch.nn.init.constant_(encoder.bias, 3.0)  # so far away that steps count in full
    net = autoencoder(encoder, decoder, 6, LEVELS, 1, is_ordered=True).eval()
    net.size_weights.copy_(torch.tensor([1.0, 3.0, 9.0, 0.5]))
    net.begin_steps()
    x = normal(generator, 20, 6)
    expected = torch.cat([x @ torch.linalg.pinv(basis[:, :3]).T, encoder(x)[:, 3:]], 1)
    torch.testing.assert_close(net.encode(x), expected)
    output = net(x)
    assert torch.equal(output.weight.expand(3, 20, 1)[:, 0, 0], net.size_weights[[0, 1, 3]])
    for level, size in enumerate(LEVELS):
        torch.testing.assert_close(output.eta[level], net.decode(output.z[:, :size]))
    net.n_refinements = 0
    assert torch.equal(net.encode(x), encoder(x))
    net.n_refinements = 1
    output = net.train()(x)
    assert torch.equal(output.z, encoder(x))
    assert torch.equal(output.weight[:, :5, 0], net.size_weights[torch.tensor([[1] * 5, [2] * 5, [3, 4, 4, 4, 3]]) - 1])
    torch.testing.assert_close(output.eta[2, 0], net.decode(output.z[:1, :3])[0])
    net(x[:5])
    assert net.n_seen == 25
    torch.testing.assert_close(net(x[:4]).weight[2, :, 0], net.size_weights[[3, 3, 3, 2]])  # samples 25 to 28


def test_an_ordered_code_takes_a_gradient_step_of_all_levels_together(generator):
    decoder, basis = ordered_decoder(generator, 6)
    torch.nn.init.normal_(decoder.path.weight, std=0.01, generator=generator)
    encoder = linear(6, 4, generator).double()
    with torch.no_grad():  # near to what it is brought to, or the step would be too long
        encoder.weight[:3] = torch.linalg.pinv(basis[:, :3])
        encoder.bias.fill_(0.1)
    net = autoencoder(encoder, decoder, 6, LEVELS, 1).eval()
    assert torch.equal(net.size_weights, torch.ones(4).double())
    weights = torch.tensor([1.0, 3.0, 9.0, 0.5]).double()
    net.size_weights.copy_(weights)
    net.begin_steps()
    x = normal(generator, 20, 6) * torch.logspace(-1, 1, 20)[:, None]

    def error(z):
        return sum(
            weight * (net.decode(z[:, :m]) - x).square().sum(1)
            for m, weight in zip(LEVELS, weights[[0, 1, 3]], strict=True)
        )

    z = encoder(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(error(z).sum(), z)
    lengths = decoder.start_weight.square().sum(1)
    curvature = sum(weight * length for weight, length in zip(weights[[0, 1, 3]], lengths, strict=True))
    step = torch.cat([-0.5 * gradient[:, :3] / curvature[:3], torch.zeros(20, 1)], 1)
    taken = ((error(z) - error(z + step)) / (0.01 * error(z))).clamp(0, 1)
    assert (taken == 1).any()
    assert ((taken > 0.01) & (taken < 0.99)).any()
    torch.testing.assert_close(net.encode(x), z + taken[:, None] * step)
    plain = autoencoder(encoder, decoder, 6, LEVELS).eval()
    assert torch.equal(plain.encode(x), encoder(x))


def test_codes_of_filled_samples_are_refined_in_eval_mode_and_if_asked(generator):
    encoder, decoder, imputer = unsilenced(5, 2, generator), unsilenced(2, 5, generator), Imputer(5, 4).double()
    model = normal(generator, 5).numpy(), normal(generator, 5, 2).numpy(), np.ones(5)
    imputer.start_at(LinearGaussian(*model))
    x = normal(generator, 9, 5)
    x[0, 1] = torch.nan
    filled = imputer.fill(x)
    net = autoencoder(encoder, decoder, 5, n_refinements=3, imputer=imputer).eval()
    refined = net.encode(x)
    torch.testing.assert_close(refined, net.encode(filled))
    assert ((decoder(refined) - filled).square().sum(1) <= (decoder(encoder(filled)) - filled).square().sum(1)).all()
    assert not torch.equal(refined, encoder(filled))
    assert torch.equal(net.train().encode(filled), encoder(filled))
    unasked = autoencoder(encoder, decoder, 5, imputer=imputer).eval()
    assert torch.equal(unasked.encode(filled), encoder(filled))


def test_building_leaves_the_global_generator_alone_and_is_seeded():
    before = torch.random.get_rng_state()

    def weights(**options):
        return Autoencoder.build(spec(**options), Scaler(5), TABLE).state_dict()

    one, two, other = weights(seed=3), weights(seed=3), weights(seed=4)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["encoder.path.weight"], other["encoder.path.weight"])
    weights(n_components=4, ordered=True)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, 3),
        ({"noise": 0.1}, 0),
        ({"sparsity": 0.1}, 0),
        ({"loss": "huber"}, 0),
        ({"start": "random"}, 0),
    ],
)
def test_codes_are_refined_where_pca_is_the_best_start(parameters, expected):
    net = Autoencoder.build(spec(**parameters), Scaler(5), TABLE)
    assert net.n_refinements == expected
    assert net.n_evaluated == 1


def samples(seed, n_features=5, offset=0.0, unit=1.0):
    """Samples near a plane, with columns of different spread."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(60, 3)) * [3, 2, 1] @ rng.normal(size=(3, n_features)) + 0.1 * rng.normal(
        size=(60, n_features)
    )
    return unit * (X + offset)


def started(X, **options):
    """A network at its start, the model that imputes, and scaled samples."""
    scaler = Autoencoder.scaler_of(X.shape[1], "identity", False).fit(ArrayRows(X))
    net = Autoencoder.build(spec(n_features=X.shape[1], **options), scaler, TABLE).double()
    x = scaler(torch.tensor(X))
    imputing = net.start(pca_start, None, ArrayRows(x.numpy()), np.random.RandomState(0), trains=True)
    return net.eval(), imputing, x


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("has_missing", [False, True])
def test_the_start_is_pca_in_units_of_x(unit, offset, has_missing, seed):
    X = samples(seed, offset=offset, unit=unit)
    net, _, _ = started(X, has_missing=has_missing)
    pca = PCA(2).fit(X)
    codes = net.to_codes(torch.tensor(X), 2)
    np.testing.assert_allclose(codes.detach(), pca.transform(X), atol=1e-9 * unit)
    decoded = net.from_codes(codes).detach()
    np.testing.assert_allclose(decoded, pca.inverse_transform(pca.transform(X)), atol=1e-9 * unit)
    np.testing.assert_allclose(net.linear_components(2), pca.components_, atol=1e-9)
    np.testing.assert_allclose(net.linear_components(1), pca.components_[:1], atol=1e-9)
    assert net.to_codes(torch.tensor(X), 1).shape == (60, 1)


@pytest.mark.parametrize("of_net", [torch.float32, torch.float64])
@pytest.mark.parametrize("of_samples", [torch.float32, torch.float64])
def test_codes_and_samples_are_in_the_precision_of_samples(of_net, of_samples, seed):
    X = samples(seed)
    net, x = started(X)[0].to(of_net), torch.tensor(X).to(of_samples)
    pca, codes = PCA(2).fit(X), net.to_codes(x, 2)
    decoded = net.from_codes(codes)
    assert codes.dtype == decoded.dtype == of_samples
    atol = 1e-9 if of_net == of_samples == torch.float64 else 1e-4
    np.testing.assert_allclose(codes.detach(), pca.transform(X), atol=atol)
    np.testing.assert_allclose(decoded.detach(), pca.inverse_transform(pca.transform(X)), atol=atol)


def test_an_offset_costs_a_network_of_float32_no_digits(seed):
    X = samples(seed, offset=1e7)
    net, pca = started(X)[0].float(), PCA(2).fit(X - 1e7)
    codes = net.to_codes(torch.tensor(X), 2)
    np.testing.assert_allclose(codes.detach(), pca.transform(X - 1e7), atol=1e-4)
    np.testing.assert_allclose(net.from_codes(codes).detach() - 1e7, pca.inverse_transform(codes.detach()), atol=1e-4)


def test_the_start_of_several_levels_is_pca_of_each_size(seed):
    X = samples(seed, 6)
    net, _, x = started(X, n_components=4, ordered=True)
    pca = PCA(4).fit(X)
    codes = pca.transform(X)
    np.testing.assert_allclose(net.to_codes(torch.tensor(X), 4).detach(), codes, atol=1e-9)
    for size, weight in zip(LEVELS, net.decoder.start_weight, strict=True):
        assert not weight[:, size:].any()  # which curvatures are computed from
    for size in (1, 2, 3, 4):
        expected = codes[:, :size] @ pca.components_[:size] + pca.mean_
        np.testing.assert_allclose(net.from_codes(torch.tensor(codes[:, :size])).detach(), expected, atol=1e-9)
        np.testing.assert_allclose(net.linear_components(size), pca.components_[:size], atol=1e-9)
    for size, weight in enumerate(net.size_weights, 1):  # which make errors of all sizes alike
        rest = net.scaler(torch.tensor(codes[:, :size] @ pca.components_[:size] + pca.mean_)) - x
        assert (weight * rest.square().mean()).item() == pytest.approx(59 / 60)


def test_codes_in_no_order_have_no_weights_of_sizes(seed):
    net, _, _ = started(samples(seed, 6), n_components=4)
    assert net.size_weights.tolist() == [1] * 4
    assert net.decoded.tolist() == [1, 2, 3, 4]


def test_two_levels_start_at_pca_of_one_and_two_components(seed):
    X = samples(seed)
    net, _, _ = started(X, n_components=2, ordered=True)
    pca = PCA(2).fit(X)
    codes = pca.transform(X)
    assert not net.decoder.start_weight[0, :, 1].any()
    for size in (1, 2):
        expected = codes[:, :size] @ pca.components_[:size] + pca.mean_
        np.testing.assert_allclose(net.from_codes(torch.tensor(codes[:, :size])).detach(), expected, atol=1e-9)


def test_weights_of_sizes_are_bounded_and_follow_the_degree_of_the_loss(seed):
    X = samples(seed, 3)[:, [0, 1, 2, 2]]  # the fourth component is nothing
    options = {"n_components": 4, "levels": LEVELS, "ordered": True}
    square = started(X, **options)[0].size_weights
    total = 60 * 4 / 59  # of scaled samples
    assert square[3].item() == pytest.approx(4 / (1e-7 * total))
    absolute = started(X, loss="absolute_error", **options)[0].size_weights
    torch.testing.assert_close(absolute, square.sqrt())
    assert (started(np.ones((9, 4)), **options)[0].size_weights == 1).all()


@pytest.mark.parametrize("is_round", [False, True])
def test_units_of_training_are_what_pca_leaves(is_round, seed):
    X = np.random.RandomState(seed).normal(size=(60, 5)) * [1, 1, 1, 1, 0.01] if is_round else samples(seed)
    net, _, x = started(X)
    start = pca_start(x.numpy(), 2, np.random.RandomState(0))
    residual, code_scale = torch.tensor(start.residual), torch.tensor(start.code_scale)
    typical = residual.square().mean().sqrt()
    torch.testing.assert_close(net.encoder.per_input, 1 / net.scaler.spread.clamp_min(typical))
    torch.testing.assert_close(net.encoder.unit, (typical * 5**0.5 / code_scale).clamp_max(1))
    torch.testing.assert_close(net.decoder.unit, residual)
    if is_round:  # of which PCA leaves more than a code has, and than the last column
        assert (net.encoder.unit == 1).any()
        assert net.scaler.spread[4] < typical
    assert torch.equal(net.encoder.low, x.amin(0))
    assert torch.equal(net.encoder.high, x.amax(0))
    codes = x @ torch.tensor(start.encoder).T
    torch.testing.assert_close((net.decoder.low, net.decoder.high), (codes.amin(0), codes.amax(0)))
    masked, _, _ = started(X, has_missing=True)
    torch.testing.assert_close(masked.encoder.per_input, torch.cat([net.encoder.per_input, torch.ones(5).double()]))
    assert masked.encoder.low[5:].tolist() == [0] * 5
    assert masked.encoder.high[5:].tolist() == [1] * 5
    assert not masked.encoder.start_weight[:, 5:].any()
    for parameters in ({"noise": 0.1}, {"sparsity": 0.1}):
        other, _, _ = started(X, **parameters)
        for unit in (other.encoder.per_input, other.encoder.unit, other.decoder.unit):
            assert (unit == 1).all()


def test_a_code_has_the_unit_of_the_first_level_that_has_it(seed):
    X = samples(seed, 6)
    net, _, _ = started(X, n_components=4, ordered=True)
    single = {size: started(X, n_components=size)[0] for size in LEVELS}
    expected = torch.cat([single[1].encoder.unit, single[2].encoder.unit[1:], single[4].encoder.unit[2:]])
    torch.testing.assert_close(net.encoder.unit, expected)
    torch.testing.assert_close(net.decoder.unit, torch.stack([single[size].decoder.unit for size in LEVELS]))


def test_where_pca_leaves_nothing_units_are_small_but_not_zero(seed):
    X = samples(seed, 2)
    net, _, _ = started(X, n_components=2)
    assert net.decoder.unit.tolist() == pytest.approx([1e-11] * 2)
    assert (net.encoder.unit > 0).all()
    torch.testing.assert_close(net.encoder.per_input, 1 / net.scaler.spread)


def test_the_model_that_imputes_is_that_of_pca(seed):
    X = samples(seed)
    net, imputing, x = started(X)
    start = pca_start(x.numpy(), 2, np.random.RandomState(0))
    assert not imputing.location.any()
    np.testing.assert_allclose(imputing.loadings, start.decoder)
    spread = net.scaler.spread.numpy()
    np.testing.assert_allclose(imputing.noise, np.maximum(start.residual**2, 1e-3 * spread**2))


@pytest.mark.parametrize("is_raw", [False, True])
def test_without_a_linear_start_weights_stay_and_means_are_imputed(is_raw, seed):
    X = samples(seed, offset=3.0)
    scaler = Autoencoder.scaler_of(5, "identity", is_raw).fit(ArrayRows(X))
    net = Autoencoder.build(spec(start="random"), scaler, TABLE).double()
    before = copy.deepcopy(net.state_dict())
    imputing = net.start(None, None, ArrayRows(X), np.random.RandomState(0), trains=True)
    assert scaler.is_raw == is_raw
    np.testing.assert_allclose(imputing.location, X.mean(axis=0) if is_raw else np.zeros(5))
    assert (imputing.loadings.shape, imputing.loadings.any(), imputing.noise.tolist()) == ((5, 1), False, [1] * 5)
    after = net.state_dict()
    assert (after.pop("code_scaler.scale") == scaler.scale).all()
    del before["code_scaler.scale"]
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_a_link_is_undone_by_the_loss(loss, seed):
    """The decoder starts on the scale of the link, and codes decode to means."""
    X = np.random.RandomState(seed).uniform(0.1, 0.9, size=(60, 5))
    scaler = Autoencoder.scaler_of(5, LOSSES[loss].link, False).fit(ArrayRows(X))
    net = Autoencoder.build(spec(loss=loss), scaler, TABLE).double().eval()
    x = scaler(torch.tensor(X))
    net.start(pca_start, None, ArrayRows(x.numpy()), np.random.RandomState(0), trains=True)
    linked = scaler.linked(torch.tensor(X)).numpy()
    pca = PCA(2).fit(linked)
    means = LOSSES[loss].inverse_link(torch.tensor(pca.inverse_transform(pca.transform(linked))))
    codes = net.to_codes(torch.tensor(X), 2)
    np.testing.assert_allclose(codes.detach(), pca.transform(linked), atol=1e-9)
    np.testing.assert_allclose(net.from_codes(codes).detach(), means, atol=1e-9)
    np.testing.assert_allclose(net.linear_components(2), pca.components_, atol=1e-9)
    residual = torch.tensor(pca_start(x.numpy(), 2, np.random.RandomState(0)).residual)
    torch.testing.assert_close(net.decoder.unit, residual * scaler.scale)  # outputs are on the link's own scale


def test_a_size_may_be_decoded_as_a_smaller_one(seed):
    X = samples(seed, 6)
    net, _, _ = started(X, n_components=4, ordered=True)
    net.decoded[2] = 2
    Z = torch.tensor(PCA(4).fit_transform(X))
    assert torch.equal(net.from_codes(Z[:, :3]), net.from_codes(Z[:, :2]))
    assert net.linear_components(3).shape == (3, 6)


@pytest.mark.parametrize("ordered", [False, True])
def test_at_first_the_network_imputes_alone(ordered):
    net = Autoencoder.build(spec(n_components=4, ordered=ordered), Scaler(5), TABLE)
    assert net.state_dict()["imputation_share"].tolist() == [0] * 4


def test_own_decoders_have_no_components(generator):
    net = autoencoder(linear(5, 2, generator), linear(2, 5, generator), 5)
    assert net.linear_components(2) is None


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "log_loss"])
def test_a_loss_is_told_in_units_of_x(loss, generator):
    net = autoencoder(torch.nn.Identity(), torch.nn.Identity(), 2, loss=LOSSES[loss])
    net.scaler.scale.fill_(3.0)
    assert net.loss_in_units(2.0, None) == pytest.approx(2.0 * 3.0 ** LOSSES[loss].degree)
    net.is_ordered = True
    assert net.loss_in_units(2.0, None) == 2.0


def test_constant_columns_do_not_count(generator):
    net, x = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5), normal(generator, 9, 5)
    net.scaler.constant[1] = True
    output = net(x)
    squares = (output.eta - x).square()
    squares[:, 1] = 0
    torch.testing.assert_close(net.objective()(output, x), squares.mean())


def test_noise_is_relative_to_the_spread_of_columns():
    net = autoencoder(torch.nn.Identity(), torch.nn.Identity(), 2, noise=0.5)
    net.scaler.spread.copy_(torch.tensor([1.0, 3.0]))
    assert net.input_noise.tolist() == [0.5, 1.5]
    net.noise = 0.0
    assert net.input_noise is None


def finite(encoder, decoder, **options):
    return bool(autoencoder(encoder, decoder, 5, **options).eval().typical().isfinite().all())


def test_codes_and_reconstructions_of_typical_samples_are_checked(generator):
    def half(n_in, n_out):
        return fill_at_random(CorrectedLinear(linear(n_in, n_out, generator)), generator)

    assert finite(half(5, 2), half(2, 5))
    for index in (0, 1):
        for value in (torch.nan, torch.inf):
            broken = [half(5, 2), half(2, 5)]
            with torch.no_grad():
                broken[index].path.bias[0] = value
            assert not finite(*broken)
    decoder = Function(lambda z: z.new_zeros(len(z), 5))
    assert finite(Function(lambda x: 1e305 + x[:, :2]), decoder)
    assert not finite(Function(lambda x: 1e307 + x[:, :2]), decoder)  # a hundred times which is infinite


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_samples_at_the_mean_and_a_deviation_either_way_are_checked(value):
    broken = Function(lambda x: torch.where(x == value, torch.inf, x)[:, :2])
    assert finite(broken, Function(lambda z: z.new_zeros(len(z), 5))) is False


def test_samples_a_deviation_away_are_checked_unless_they_are_raw():
    """Of an encoder that is finite up to one half, and of one that is at the mean alone."""

    def below(bound):
        return Function(lambda x: torch.where(x.abs() <= bound, x, torch.inf)[:, :2])

    decoder = Function(lambda z: z.new_zeros(len(z), 5))
    assert finite(below(1.0), decoder)
    assert not finite(below(0.5), decoder)
    raw = Scaler(5, is_raw=True)
    raw.mean.fill_(3.0)
    assert finite(below(3.0), decoder, scaler=raw)
    assert not finite(below(2.5), decoder, scaler=raw)


def test_levels_of_own_size_are_decoded_alike_in_training_and_evaluation(generator):
    """An ordered network of one component has one level, with a weight."""
    net = autoencoder(unsilenced(5, 1, generator), unsilenced(1, 5, generator), 5, (1,), is_ordered=True)
    net.size_weights.fill_(7.0)
    x = normal(generator, 9, 5)
    for is_training in (True, False):
        output = net.train(is_training)(x)
        torch.testing.assert_close(net.objective()(output, x), 7 * (net.decoder(net.encoder(x)) - x).square().mean())


def test_every_level_gets_a_gradient(generator):
    path = linear_at_levels(LEVELS, 4, 6, generator)
    decoder = CorrectedLinear(path, MLP([4, 7, 6], "gelu", generator, LEVELS))
    net, x = autoencoder(linear(6, 4, generator), decoder, 6, LEVELS), normal(generator, 9, 6)
    found = gradients(net.objective()(net(x), x), net)
    for name in ("decoder.path.weight", "decoder.correction.0.weight", "decoder.correction.2.bias"):
        assert (found[name].abs().flatten(1).amax(1) > 0).all()
