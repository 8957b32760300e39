"""A quick start of the installed package: `make dist` runs it in an environment that has nothing else."""

from pathlib import Path

from sklearn.datasets import load_digits

import skae


def main():
    folder = Path(skae.__file__).parent
    assert folder.parent.name == "site-packages", folder
    assert all((folder / name).exists() for name in ("py.typed", "inspection/page.html"))
    X = load_digits().data[:200]
    codes = skae.AutoencoderTransformer(2, max_iter=1, random_state=0).fit_transform(X)
    samples = skae.VAEGenerator(2, max_iter=1, random_state=0).fit(X).sample(3)
    print(skae.__version__, codes.shape, samples.shape)


if __name__ == "__main__":
    main()
