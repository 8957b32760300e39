"""
Larger than memory
==================

A year of a machine's sensors may be larger than memory. Here 200,000 samples of 60 columns stand for it, in Parquet
and in a NumPy file, with the hours in order. An autoencoder learns from the Parquet file a batch at a time, by
`partial_fit`. The NumPy file goes to `fit`, which would stream a larger one.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skae import AutoencoderTransformer, reconstruction_error

N_ROWS, N_COLUMNS, PIECE = 200_000, 60, 20_000
rng = np.random.default_rng(0)
directions = rng.standard_normal((2, 3, N_COLUMNS)).astype(np.float32)


def measure(hours):
    """What the sensors say at these hours, which are from 0 to 1: load and temperature drift, and noise."""
    load = np.sin(700 * hours) + hours
    temperature = np.cos(3 * hours) + 0.3 * rng.standard_normal(len(hours))
    curves = np.stack([[load, load**2, np.tanh(2 * load)], [temperature, temperature**2, load * temperature]])
    rows = np.einsum("abn,abj->nj", curves.astype(np.float32), directions)
    return rows + 0.3 * rng.standard_normal(rows.shape, dtype=np.float32)


folder = tempfile.TemporaryDirectory()
in_parquet, in_numpy = Path(folder.name) / "year.parquet", Path(folder.name) / "year.npy"
names = [f"sensor_{j}" for j in range(N_COLUMNS)]
mapped = np.lib.format.open_memmap(in_numpy, mode="w+", dtype=np.float32, shape=(N_ROWS, N_COLUMNS))
with pq.ParquetWriter(in_parquet, pa.schema([(name, pa.float32()) for name in names])) as writer:
    for start in range(0, N_ROWS, PIECE):
        rows = measure(np.arange(start, start + PIECE) / N_ROWS)
        mapped[start : start + PIECE] = rows
        writer.write_table(pa.table(dict(zip(names, rows.T, strict=True))))
mapped.flush()
test = measure(rng.random(5000))

# %%
# Batches of a Parquet file, or the partitions of a Dask DataFrame, go to `partial_fit` one after another. The first
# batch decides mean, scale and start, so it should be like the others: here it is a tenth of the samples, from all
# over the file. Samples are shuffled within a batch alone, and the last ones weigh most. So shuffle a file in some
# order when you write it. This one is not shuffled.


def batches():
    """Batches of 20,000 samples, as arrays."""
    for batch in pq.ParquetFile(in_parquet).iter_batches(PIECE):
        yield np.stack([column.to_numpy() for column in batch.columns], axis=1)


first = np.concatenate([rows[::10] for rows in batches()])
by_pieces = AutoencoderTransformer(3, random_state=0).partial_fit(first)
linear = AutoencoderTransformer(3, max_iter=0).fit(first)
errors = []
for _ in range(3):
    for rows in batches():
        by_pieces.partial_fit(rows)
        errors.append(reconstruction_error(by_pieces, test))

# %%
# A memmap goes to `fit` as any array does. One of more than 2^25 values is streamed, in blocks from all over the file
# that are shuffled together; this one has 12 million, so it is loaded. Validation set and one-cycle schedule are
# those of any fit.


year = np.load(in_numpy, mmap_mode="r")
whole = AutoencoderTransformer(3, max_iter=3, random_state=0).fit(year)

# %%
# With as many passes, both ways lead to errors on new hours that are far below PCA's. `fit`, which shuffles all
# samples, is a little ahead.

pca_error, error = reconstruction_error(linear, test), reconstruction_error(whole, test)
print(f"PCA {pca_error:.4f}, fit {error:.4f}, partial_fit {errors[-1]:.4f}")
figure, ax = plt.subplots(figsize=(6, 4))
ax.plot(np.arange(1, len(errors) + 1) * PIECE / 1000, errors, label="partial_fit, a batch each")
ax.axhline(error, color="C1", label="fit, three epochs")
ax.axhline(pca_error, color="0.5", linestyle="--", label="PCA")
ax.set(xlabel="thousands of samples seen", ylabel="held-out error", ylim=(0, None))
ax.legend()
figure.tight_layout()
plt.show()
folder.cleanup()
