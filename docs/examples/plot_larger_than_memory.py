"""
Larger than memory
==================

A year of sensor data may be larger than memory. Here 200,000 samples of 60 columns stand for it, ordered by time, in a
Parquet file and in a NumPy file. `partial_fit` trains on the Parquet file a batch at a time. `fit` takes the NumPy
file, and would stream it if it were larger.
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
    """Return the sensor data at these times, from 0 to 1: load and temperature, which drift, and noise."""
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
# Pass batches of a Parquet file, or partitions of a Dask DataFrame, to `partial_fit` one after another. The first
# batch determines mean, scale and start, so it should represent the file: here it is every tenth sample. Samples are
# shuffled only within a batch, and the last batches have the largest effect. So shuffle samples when you write the
# file. The samples of this file are ordered, to show the effect.


def batches():
    """Yield batches of 20,000 samples, as arrays."""
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
# Pass a memmap to `fit` as any array. If it has more than 2^25 values, it is streamed: blocks from all over the file
# are read and shuffled together. This one has 12 million values, so it is loaded. Validation set and learning rate
# schedule are those of any fit.


year = np.load(in_numpy, mmap_mode="r")
whole = AutoencoderTransformer(3, max_iter=3, random_state=0).fit(year)

# %%
# After three passes, the held-out errors of both are far below PCA's. That of `fit`, which shuffles all samples, is a
# little lower.

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
