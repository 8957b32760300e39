"""Landmarks: the nearest one, and what an autoencoder makes of them."""

import math

import numpy as np
import pytest
import torch
from network_cases import (
    LEVELS,
    autoencoder,
    fill_at_random,
    gaussian_vae,
    leveled,
    normal,
    ordered_decoder,
    unsilenced,
)

from skae.networks.landmarks import Landmarks
from skae.networks.vae import Posterior
from skae.objectives import gaussian_kl


@pytest.mark.parametrize("is_prepared", [False, True])
def test_the_best_landmark_has_the_largest_sum(is_prepared, generator):
    landmarks, x, calls = Landmarks(2), normal(generator, 20, 5), []
    landmarks.codes = normal(generator, 9, 2)
    maps = {1: normal(generator, 2, 5), 2: normal(generator, 2, 5)}
    if is_prepared:
        landmarks.prepare()
    for size in (1, 2, 1):

        def terms(z, size=size):
            calls.append(size)
            return z @ maps[size], z.square().sum(1)

        found, explained = landmarks(x, terms, size)
        most, best = (x @ maps[size].T @ landmarks.codes.T + landmarks.codes.square().sum(1)).max(1)
        assert torch.equal(found, landmarks.codes[best])
        torch.testing.assert_close(explained, most)
    assert calls == ([1, 2] if is_prepared else [1, 2, 1])
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
    each = torch.stack([errors(landmark.expand(30, 4)) for landmark in net.landmarks.codes])
    nearest = net.landmarks.codes[each.argmin(0)]
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
        ([8, 7, 6, 5, 4, 3, 2, 1], 1.0, (3, True)),  # in turn with no landmarks and some, from 0 to 3 steps
        ([1.01, 7, 6, 5, 4, 3, 2, 1], 2.0, (0, False)),
        ([1.01, 1, 1, 1, 1, 1, 1, 1], 1.001, (0, True)),  # never more than was recorded
        ([1.011, 7, 1.01, 5, 4, 1, 1, 1], 2.0, (1, False)),
        ([1, 1, 1, 1, 1, 1, 1, 1], 0.5, (0, False)),
        ([math.nan, 7, math.nan, 5, 4, 3, 2, 1], 1.0, (3, True)),  # only landmarks helped a sample that overflows
    ],
)
def test_the_fastest_projection_with_nearly_the_lowest_loss_is_chosen(losses, most, chosen, generator):
    net = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5, n_refinements=3).eval()
    x, left, seen = normal(generator, 7, 5), iter(losses), []

    def loss():
        seen.append((net.n_refinements, len(net.landmarks) > 0))
        return next(left)

    found = net.choose_refinement(x, loss, most)
    assert seen == [(n_steps, has_landmarks) for n_steps in (0, 1, 2, 3) for has_landmarks in (False, True)]
    assert (net.n_refinements, len(net.landmarks) > 0) == chosen
    assert found == losses[seen.index(chosen)]
    net.reset_refinement()
    assert (net.n_refinements, len(net.landmarks)) == (3, 0)


def test_a_copy_that_is_prepared_gives_the_same_codes(generator):
    net = autoencoder(unsilenced(5, 2, generator), unsilenced(2, 5, generator), 5, n_refinements=2).eval()
    x = normal(generator, 30, 5)
    net.prepare()
    net.begin_validation(x[:20])
    assert len(net.landmarks) == 20
    before = net.encode(x)
    net.prepare()
    assert torch.equal(net.encode(x), before)
    np.testing.assert_allclose(net.encode(x[3:4]).detach().numpy(), before[3:4].detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "n_codes", "n_out", "most"), [(autoencoder, 2, 5, 3), (gaussian_vae, 4, 10, 4)], ids=["ae", "vae"]
)
def test_validations_in_training_have_steps_and_landmarks_of_their_own(build, n_codes, n_out, most, generator):
    net = build(unsilenced(5, n_codes, generator), unsilenced(2, n_out, generator), 5, n_refinements=most)
    x = normal(generator, 300, 5)
    net.eval().begin_validation(x)
    assert net.n_refinements == 2
    torch.testing.assert_close(net.landmarks.codes, net.encoder(x[:128]))
    net.reset_refinement()
    assert (net.n_refinements, len(net.landmarks)) == (most, 0)


def ordered_gaussian_vae(generator, n_refinements):
    encoder, (decoder, _) = unsilenced(6, 8, generator), ordered_decoder(generator, 6, 2)
    return gaussian_vae(encoder, fill_at_random(decoder, generator, 0.3), 6, LEVELS, n_refinements).eval()


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("n_refinements", [0, 2])
def test_a_posterior_starts_at_the_landmark_with_the_highest_density_at_its_mean_if_it_is_better(
    size, n_refinements, generator
):
    net = ordered_gaussian_vae(generator, n_refinements)
    x, at_level = normal(generator, 30, 6), net.at(size)

    def bounds(q):
        return at_level.likelihood(net.decode(q.mean), x) - gaussian_kl(*q).sum(1)

    guess = at_level.leading(net.guess(x))
    net.landmarks.codes = normal(generator, 50, 8)
    of_landmarks = at_level.leading(Posterior(*net.landmarks.codes.chunk(2, dim=1)))
    each = torch.stack([bounds(Posterior(*(part[i].expand(30, size) for part in of_landmarks))) for i in range(50)])
    is_better = each.amax(0) > bounds(guess)
    assert is_better.any()
    found = net.at(size).posterior(x)
    if n_refinements:
        assert (bounds(found) >= torch.maximum(each.amax(0), bounds(guess)) - 1e-9).all()
    else:
        for part, other, own in zip(found, of_landmarks, guess, strict=True):
            assert torch.equal(part, torch.where(is_better[:, None], other[each.argmax(0)], own))
    unrefined = net.at(size, is_refined=False).posterior(x)
    assert all(torch.equal(part, own) for part, own in zip(unrefined, guess, strict=True))


def test_landmarks_are_searched_for_by_imputed_samples_where_values_are_missing(generator):
    net = gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator), n_refinements=0).eval()
    x = normal(generator, 200, 5)
    x[::2, [1, 4]] = torch.nan
    net.landmarks.codes = normal(generator, 60, 4)
    found = net.at(2).posterior(x)
    assert not any(part.isnan().any() for part in found)
    before = net.at(2, is_refined=False).posterior(x)
    is_landmark = (found.mean != before.mean).any(1)
    assert is_landmark[::2].any()
    assert is_landmark[1::2].any()
    complete = gaussian_vae(net.encoder, net.decoder, n_refinements=0, likelihoods=net.likelihoods).eval()
    complete.landmarks.codes = net.landmarks.codes
    best = complete.at(2)._best_landmark(net.imputer.fill(x))[0].mean
    torch.testing.assert_close(found.mean[is_landmark], best[is_landmark])

    def explained(mean, q):  # of what is observed
        return net.at(2).likelihood(net.decode(mean), x) - gaussian_kl(mean, q.log_var).sum(1)

    other = complete.at(2)._best_landmark(net.imputer.fill(x))[0]
    assert torch.equal(is_landmark, explained(other.mean, other) > explained(before.mean, before))


def test_conditional_models_have_no_landmarks(generator):
    parts = unsilenced(7, 4, generator), unsilenced(4, 10, generator)
    assert gaussian_vae(*parts, n_refinements=2, n_context=2).n_landmarks == 0
    assert gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator), n_refinements=2).n_landmarks == 512
    assert gaussian_vae(unsilenced(5, 4, generator), unsilenced(2, 10, generator)).n_landmarks == 0
