"""Landmarks: the nearest one, and what an autoencoder makes of them."""

import numpy as np
import pytest
import torch
from network_cases import LEVELS, autoencoder, leveled, normal, unsilenced

from skae.networks.landmarks import Landmarks


@pytest.mark.parametrize("is_kept", [False, True])
def test_the_nearest_landmark_has_the_least_weighted_error(is_kept, generator):
    landmarks, x = Landmarks(2), normal(generator, 20, 5)
    landmarks.codes = normal(generator, 9, 2)
    maps, weights = normal(generator, 3, 2, 5), torch.tensor([[0.1], [2.0], [1.0]]).double()

    def decode(z):
        return (z @ maps).tanh()

    if is_kept:
        landmarks.keep(decode, weights)
    found = landmarks(x, decode, weights)
    errors = (weights[..., None] * (decode(landmarks.codes)[:, :, None] - x).square().sum(-1)).sum(0)
    assert torch.equal(found, landmarks.codes[errors.argmin(0)])
    assert len(landmarks) == 9
    assert not landmarks.state_dict()


@pytest.mark.parametrize("levels", [(4,), LEVELS])
@pytest.mark.parametrize("n_refinements", [0, 3])
def test_codes_start_at_a_landmark_where_it_is_nearer_than_the_guess(levels, n_refinements, generator):
    decoder = leveled(generator, "layers") if len(levels) > 1 else unsilenced(4, 5, generator)
    net = autoencoder(unsilenced(5, 4, generator), decoder, 5, levels, n_refinements).eval()
    net.size_weights.copy_(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    x = normal(generator, 30, 5)
    weights = net.size_weights[torch.tensor(levels) - 1][:, None]

    def errors(z):
        outputs = net.outputs(z, torch.tensor(levels)[:, None]).reshape(len(levels), *x.shape)
        return (weights * (outputs - x).square().sum(2)).sum(0)

    without, guess = errors(net.encode(x)), errors(net.encoder(x))
    net.landmarks.codes = normal(generator, 50, 4)
    nearest = net.landmarks(x, lambda z: net.outputs(z, net.sizes).reshape(len(levels), -1, 5), weights)
    first = torch.minimum(errors(nearest), guess)
    found = errors(net.encode(x))
    is_landmark = errors(nearest) < guess
    assert is_landmark.any()
    if n_refinements:
        assert (found <= first + 1e-12).all()
    else:
        torch.testing.assert_close(found, first)
        assert torch.equal(net.encode(x)[~is_landmark], net.encoder(x)[~is_landmark])
    assert (found[~is_landmark] <= without[~is_landmark] + 1e-12).all()
    assert torch.equal(net.train().encode(x), net.encoder(x))


@pytest.mark.parametrize(
    ("losses", "most", "chosen"),
    [
        ([8, 7, 6, 5, 4, 3, 2, 1], 1.0, (4, True)),  # in turn with no landmarks and some, from 0 to 4 steps
        ([1.003, 7, 6, 5, 4, 3, 2, 1], 2.0, (0, False)),
        ([1.003, 1, 1, 1, 1, 1, 1, 1], 1.001, (0, True)),  # never more than was recorded
        ([1.004, 7, 1.003, 5, 4, 1, 1, 1], 2.0, (1, False)),
        ([1, 1, 1, 1, 1, 1, 1, 1], 0.5, (0, False)),
    ],
)
def test_the_fastest_projection_with_nearly_the_lowest_loss_is_chosen(losses, most, chosen, generator):
    net = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5, n_refinements=4).eval()
    x, left, seen = normal(generator, 7, 5), iter(losses), []

    def loss():
        seen.append((net.n_refinements, len(net.landmarks) > 0))
        return next(left)

    found = net.choose_projection(x, loss, most)
    assert seen == [(n_steps, has_landmarks) for n_steps in (0, 1, 2, 4) for has_landmarks in (False, True)]
    assert (net.n_refinements, len(net.landmarks) > 0) == chosen
    assert found == losses[seen.index(chosen)]
    net.reset_projection()
    assert (net.n_refinements, len(net.landmarks)) == (4, 0)


def test_a_copy_that_is_prepared_gives_the_same_codes(generator):
    net = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5, n_refinements=2).eval()
    x = normal(generator, 30, 5)
    net.prepare()
    net.use_landmarks(x[:20])
    assert len(net.landmarks) == 20
    before = net.encode(x)
    net.prepare()
    assert torch.equal(net.encode(x), before)
    np.testing.assert_array_equal(net.encode(x[3:4]).detach().numpy(), before[3:4].detach().numpy())
