"""How fast are codes of one sample? `python benchmarks/one_sample.py`, in the environment of development.

Milliseconds of processor time of `transform` by PCA and skae's estimators on digits, and of the graphs that `to_onnx`
writes in onnxruntime: of one sample, the median of 200 calls, and of all samples, the median of ten.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from quality import RESULTS, stamp
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAEGenerator, to_onnx

SHORT = {"n_components": 8, "max_iter": 10, "random_state": 0}
MODELS = {
    "PCA": PCA(8),
    "AutoencoderTransformer": AutoencoderTransformer(**SHORT),
    "AutoencoderTransformer, absolute error": AutoencoderTransformer(**SHORT, loss="absolute_error"),
    "VAEGenerator": VAEGenerator(**SHORT),
}


def milliseconds(call, n):
    """The median of n calls, after two that are not counted."""
    seconds = []
    for _ in range(n + 2):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return 1e3 * float(np.median(seconds[2:]))


def in_onnxruntime(model, sample):
    """Milliseconds of one sample by the graph of a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        to_onnx(model, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
    (entry,) = session.get_inputs()
    return milliseconds(lambda: session.run(None, {entry.name: sample.astype(np.float32)}), 200)


def measured(X):
    for name, model in MODELS.items():
        model.fit(X)
        one = milliseconds(lambda model=model: model.transform(X[:1]), 200)
        graph = None if name == "PCA" else in_onnxruntime(model, X[:1])
        yield {
            "model": name,
            "one": one,
            "onnx": graph,
            "all": milliseconds(lambda model=model: model.transform(X), 10),
        }


def markdown(records, made):
    yield f"# One sample, {made['date']}\n"
    yield (
        "Milliseconds of processor time of `transform` on digits with 8 components, one thread, against PCA. PCA is "
        "fastest, refined codes cost most.\n"
    )
    yield (
        "Written by `benchmarks/one_sample.py`. " + "; ".join(f"{name} {value}" for name, value in made.items()) + ".\n"
    )
    yield "| model | one sample | one sample, ONNX | 1,797 samples |\n|---|---|---|---|"
    for record in records:
        cells = ("" if record[key] is None else f"{record[key]:.3g}" for key in ("one", "onnx", "all"))
        yield f"| {record['model']} | {' | '.join(cells)} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    made, records = stamp((), 1, "onnxruntime"), list(measured(load_digits().data))
    (RESULTS / "one-sample.json").write_text(json.dumps({"made with": made, "records": records}, indent=1) + "\n")
    (RESULTS / "one-sample.md").write_text("\n".join(markdown(records, made)) + "\n")
    print("\n".join(markdown(records, made)))
