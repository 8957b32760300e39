import pytest
import torch
from objective_cases import draws, likelihood, start_noise
from torch.distributions import Normal, kl_divergence

from skae.objectives import NegativeELBO, VAEOutput, gaussian_kl, mixed_likelihood


def test_kl_is_torchs_and_within_monte_carlo_error(seed):
    mean, log_var = draws(seed, 5, 3), draws(seed + 1, 5, 3)
    q, p = Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)
    torch.testing.assert_close(gaussian_kl(mean, log_var), kl_divergence(q, Normal(torch.zeros_like(mean), 1.0)))
    z = mean + (log_var / 2).exp() * draws(seed + 2, 40000, 5, 3)
    ratio = q.log_prob(z) - p.log_prob(z)
    assert ((ratio.mean(0) - gaussian_kl(mean, log_var)).abs() < 5 * ratio.std(0) / 200).all()


def test_the_objective_is_minus_the_bound_with_beta_on_its_kl(seed):
    built = likelihood("gaussian", 4)
    mean, log_var, eta, x = draws(seed, 6, 2), draws(seed + 1, 6, 2), draws(seed + 2, 3, 6, 8), draws(seed + 3, 6, 4)
    output = VAEOutput(mean, log_var, None, eta)
    fit, kl = built(eta, x).mean(0), gaussian_kl(mean, log_var).sum(1)
    for beta in (0.0, 1.0, 4.0):
        assert NegativeELBO([built], beta)([output], x).item() == pytest.approx((beta * kl - fit).mean().item())


def vae_output(seed, n_components):
    return VAEOutput(*(draws(seed + k, *s) for k, s in enumerate([(6, n_components)] * 2 + [(2, 6, 1), (2, 6, 8)])))


def test_a_defensive_mixture_is_for_evaluation_and_not_for_training(seed):
    class Doubled(torch.nn.Module):
        def forward(self, bound, x, context):
            return 2 * bound + context

    output, x = vae_output(seed, 2)._replace(context=draws(seed, 6)), draws(seed + 9, 6, 4)
    built = likelihood("gaussian", 4)
    plain, defended = NegativeELBO([built]), NegativeELBO([built], defensive=[Doubled()])
    torch.testing.assert_close(defended([output], x), plain([output], x))
    assert torch.equal(plain.eval().bound(output, x), plain.train().bound(output, x))
    torch.testing.assert_close(defended.eval().bound(output, x), 2 * plain.bound(output, x) + output.context)
    torch.testing.assert_close(defended([output], x), -defended.bound(output, x).mean())


def test_the_objective_of_several_sizes_is_the_mean_of_theirs(seed):
    class Added(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, bound, x, context):
            return bound + self.value

    likelihoods = [start_noise(likelihood("gaussian", 4), torch.full((4,), k).double()) for k in (0.5, 1.0, 2.0)]
    defensive = [Added(value) for value in (1.0, 10.0, 100.0)]
    large, small, x = vae_output(seed, 3), vae_output(seed + 10, 1), draws(seed + 20, 6, 4)
    nested = NegativeELBO(likelihoods, 2.0, defensive)
    expected = (NegativeELBO([likelihoods[2]], 2.0)([large], x) + NegativeELBO([likelihoods[0]], 2.0)([small], x)) / 2
    torch.testing.assert_close(nested([large, small], x), expected)
    torch.testing.assert_close(nested.eval()([large, small], x), expected - 101 / 2)
    assert len(list(nested.parameters())) == 3


def test_the_bound_of_a_sample_is_that_of_its_observed_values(seed):
    output, x, objective = vae_output(seed, 2), draws(seed + 9, 6, 4), NegativeELBO([likelihood("gaussian", 4)])
    x[:, 2] = torch.nan
    without = objective.likelihoods[0].log_prob(output.eta, torch.where(x.isnan(), 0, x))[..., [0, 1, 3]].sum(-1)
    expected = without.mean(0) - gaussian_kl(output.mean, output.log_var).sum(1)
    torch.testing.assert_close(objective.bound(output, x), expected)


def test_every_entry_of_the_output_gets_a_gradient(seed):
    output = VAEOutput(*(part.requires_grad_() for part in vae_output(seed, 2)[:4]))
    objective = NegativeELBO([likelihood("gaussian", 4)])
    objective([output], draws(seed + 9, 6, 4)).backward()
    for part in (output.mean, output.log_var, output.eta, *objective.parameters()):
        assert part.grad.all()


def test_the_reconstruction_error_is_that_of_columns_with_a_learned_variance(seed):
    x, outputs = draws(seed, 6, 3), []
    for size in (1, 2):
        at_mean = draws(seed + size, 6, 5)  # the means of all columns, then the variances of the first two
        outputs.append(vae_output(seed, size)._replace(at_mean=at_mean))
    built = mixed_likelihood([("gaussian", [1, 1]), ("bernoulli", [1])])
    x[2, 1] = torch.nan
    expected = sum((output.at_mean[:, :2] - x[:, :2]).square().nansum() for output in outputs) / 22
    torch.testing.assert_close(NegativeELBO([built]).reconstruction_error(outputs, x), expected)
    built.varies[0] = 0
    expected = sum((output.at_mean[:, 1] - x[:, 1]).square().nansum() for output in outputs) / 10
    torch.testing.assert_close(NegativeELBO([built]).reconstruction_error(outputs, x), expected)


def test_the_bound_with_weights_is_that_of_repeated_samples(seed):
    x, output, count = (
        draws(seed + 9, 6, 4),
        vae_output(seed, 2)._replace(at_mean=draws(seed, 6, 8)),
        torch.arange(6) % 3,
    )
    objective, weights = NegativeELBO([likelihood("gaussian", 4)]), count / count.double().mean()
    expected = -objective.bound(output, x).repeat_interleave(count).mean()
    torch.testing.assert_close(objective([output], x, weights), expected)
    errors = [objective.reconstruction_error([output._replace(at_mean=output.at_mean[[i]])], x[[i]]) for i in range(6)]
    expected = torch.stack(errors).repeat_interleave(count).mean()
    torch.testing.assert_close(objective.reconstruction_error([output], x, weights), expected)
