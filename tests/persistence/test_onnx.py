"""What a runtime makes of an exported graph is what the estimator makes of the same rows or codes."""

import builtins
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, to_onnx
from skae.networks.layers import ACTIVATIONS
from skae.objectives.likelihoods.registry import LIKELIHOODS
from skae.objectives.losses import LOSSES

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")
WINE, DIGITS = load_wine().data, load_digits().data[:300]
# Without a way back to the linear start, where refined codes would be the encoder's.
QUICK = {"hidden_layer_sizes": (16,), "max_iter": 20, "random_state": 0, "early_stopping": False}


def fit(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(X)


def computed(model, part, X, tmp_path):
    """What a runtime makes of X."""
    to_onnx(model, tmp_path / "graph.onnx", part, dtype=X.dtype.name)
    session = runtime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    (source,), (result,) = session.get_inputs(), session.get_outputs()
    assert [source.name, result.name] == {"encoder": ["rows", "codes"], "decoder": ["codes", "rows"]}.get(
        part, ["rows", "reconstruction"]
    )
    out = session.run(None, {source.name: X})[0]
    one = session.run(None, {source.name: X[:1]})[0]
    np.testing.assert_allclose(one, out[:1], rtol=1e-4, atol=1e-5 * np.abs(out).max())
    assert out.dtype == X.dtype
    assert session.run(None, {source.name: X[:0]})[0].shape == (0, out.shape[1])
    return out


def agree(model, part, X, tmp_path):
    """To 1e-5, in root mean squares, relative to how far rows of the result are from their mean."""
    codes = model.transform(X)
    expected = codes if part == "encoder" else model.inverse_transform(codes)
    out = computed(model, part, codes if part == "decoder" else X, tmp_path)
    assert out.shape == expected.shape
    assert np.linalg.norm(out - expected) < 1e-5 * np.linalg.norm(expected - expected.mean(axis=0))


@pytest.mark.parametrize("part", ["encoder", "decoder", pytest.param("autoencoder", marks=pytest.mark.slow)])
def test_every_part_of_an_autoencoder_agrees(part, tmp_path):
    agree(fit(AutoencoderTransformer(3, **QUICK), WINE), part, WINE, tmp_path)


def test_the_refined_codes_of_a_vae_agree(tmp_path):
    model = fit(VAEGenerator(3, **QUICK), WINE)
    agree(model, "encoder", WINE, tmp_path)
    first = model.net_.inference_module(torch.float64).guess(model.net_.module_.inputs(torch.from_numpy(WINE)))
    assert np.abs(first.mean.numpy() - model.transform(WINE)).max() > 1e-3  # what was refined


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_every_activation_agrees(estimator, activation, tmp_path):
    agree(fit(estimator(3, activation=activation, **QUICK), WINE), "autoencoder", WINE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if not loss.needs_table])
def test_every_loss_agrees(loss, tmp_path):
    X = DIGITS / 16 if loss == "log_loss" else DIGITS
    agree(fit(AutoencoderTransformer(3, loss=loss, **QUICK), X), "autoencoder", X, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", sorted(set(LIKELIHOODS) - {"categorical"}))
def test_every_likelihoods_mean_agrees(likelihood, tmp_path):
    X = (DIGITS > 8).astype(float) if likelihood == "bernoulli" else DIGITS
    agree(fit(VAEGenerator(3, likelihood=likelihood, **QUICK), X), "autoencoder", X, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_components_in_order_agree_whole_and_cut(estimator, tmp_path):
    model = fit(estimator(5, ordered=True, **QUICK), WINE)
    agree(model, "autoencoder", WINE, tmp_path)
    agree(model.truncate(3), "autoencoder", WINE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_convolutional_nets_agree(estimator, tmp_path):
    agree(fit(estimator(3, feature_shape=(1, 8, 8), **QUICK), DIGITS), "autoencoder", DIGITS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_gaps_are_filled_alike(estimator, seen, tmp_path):
    gaps = np.where(np.random.RandomState(0).uniform(size=WINE.shape) < 0.2, np.nan, WINE)
    agree(fit(estimator(3, **QUICK), gaps if seen else WINE), "encoder", gaps, tmp_path)


def test_raw_rows_of_counts_with_gaps_agree(tmp_path):
    gaps = np.where(np.random.RandomState(0).uniform(size=DIGITS.shape) < 0.1, np.nan, DIGITS)
    agree(fit(VAEGenerator(3, likelihood="multinomial", **QUICK), gaps), "encoder", gaps, tmp_path)


@pytest.mark.parametrize("loss", ["huber", "log_loss", "poisson"])
def test_every_link_agrees(loss, tmp_path):
    agree(fit(AutoencoderTransformer(3, loss=loss, **QUICK), DIGITS / 16), "autoencoder", DIGITS / 16, tmp_path)


def test_an_offset_costs_nothing(tmp_path):
    far = WINE + 1e9
    agree(fit(AutoencoderTransformer(3, **QUICK | {"max_iter": 0}), far), "autoencoder", far, tmp_path)


def test_a_constant_column_comes_back_constant(tmp_path):
    X = np.hstack([WINE, np.full((len(WINE), 1), 7.0)])
    model = fit(VAEGenerator(3, start="pca", **QUICK | {"max_iter": 0}), X)
    assert (computed(model, "decoder", model.transform(X), tmp_path)[:, -1] == 7).all()


def own(n_in, n_out):
    layers = nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.LeakyReLU(), nn.LayerNorm(8), nn.Linear(8, n_out)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("parameters", [{"start": "random"}, {"loss": "huber"}])
def test_own_modules_agree(parameters, tmp_path):
    X = StandardScaler().fit_transform(WINE)
    model = fit(AutoencoderTransformer(3, encoder=own, decoder=own, **QUICK, **parameters), X)
    agree(model, "autoencoder", X, tmp_path)


class OfValues(nn.Linear):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(2 * x)


def test_an_own_module_that_cannot_be_exported_is_named(tmp_path):
    model = fit(AutoencoderTransformer(3, encoder=OfValues, start="random", max_iter=1), WINE)
    for estimator in (model, fit(LatentSizeCV(model, [1], cv=2), WINE)):
        with pytest.raises(ValueError, match="The encoder cannot be exported"):
            to_onnx(estimator, tmp_path / "graph.onnx")


def test_the_format_is_not_that_of_the_name(tmp_path):
    model = AutoencoderTransformer(max_iter=0).fit(WINE)
    for name in ("graph.json", "graph.onnxtxt"):
        to_onnx(model, tmp_path / name, "decoder")
        runtime.InferenceSession((tmp_path / name).read_bytes(), providers=["CPUExecutionProvider"])


def test_a_search_exports_what_it_chose(tmp_path):
    search = LatentSizeCV(AutoencoderTransformer(loss="huber", **QUICK), (1, 2), cv=2)
    agree(fit(search, WINE), "encoder", WINE, tmp_path)


def test_what_cannot_be_exported_is_refused(tmp_path):
    path = tmp_path / "graph.onnx"
    frame = pd.DataFrame({"a": WINE[:, 0], "b": pd.cut(WINE[:, 1], 3)})
    with pytest.raises(NotFittedError):
        to_onnx(AutoencoderTransformer(), path)
    with pytest.raises(NotFittedError):
        to_onnx(LatentSizeCV(AutoencoderTransformer()), path)
    with pytest.raises(ValueError, match="part='middle' is not known"):
        to_onnx(AutoencoderTransformer(max_iter=0).fit(WINE), path, "middle")
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer())
    with pytest.raises(TypeError, match=r"Pipeline is no estimator of skae.*pipeline\[-1\].*part 'encoder'"):
        to_onnx(pipeline, path, "decoder")
    with pytest.raises(NotFittedError):
        to_onnx(pipeline, path)
    with pytest.raises(ValueError, match=r"The categories of 'b' are .*: a graph takes strings, numbers"):
        to_onnx(fit(VAEGenerator(1, likelihood="auto", max_iter=0), frame), path)
    assert not path.exists()


def test_a_part_that_is_none_is_refused():
    with pytest.raises(ValueError, match="part='middle' is not known"):
        AutoencoderTransformer(max_iter=0).fit(WINE).exported_part("middle")


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "onnx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    model = AutoencoderTransformer(max_iter=0).fit(WINE)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match="pip install onnx"):
        to_onnx(model, tmp_path / "graph.onnx")


@pytest.mark.parametrize("part", [pytest.param("encoder", marks=pytest.mark.slow), "decoder"])
def test_float32_is_the_default(part, tmp_path):
    model = fit(AutoencoderTransformer(3, **QUICK), WINE)
    to_onnx(model, tmp_path / "default.onnx", part)
    session = runtime.InferenceSession(tmp_path / "default.onnx", providers=["CPUExecutionProvider"])
    assert [end.type for end in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2
    agree(model, part, WINE.astype(np.float32), tmp_path)
    with pytest.raises(ValueError, match="dtype='float16' is not known"):
        to_onnx(model, tmp_path / "default.onnx", part, dtype="float16")
