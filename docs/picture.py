"""Draw the picture of the README and the site's first page, `docs/images/digits.png`: `python docs/picture.py`."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, reconstruction_error

SIZES = 2, 4, 8, 16
GREY, BLUE = "#767676", "#0072b2"


def draw_codes(ax, title, codes, digits):
    """Draw each code as the digit that it stands for."""
    for digit in range(10):
        colour = plt.get_cmap("tab10")(digit)
        ax.scatter(*codes[digits == digit].T, s=26, marker=f"${digit}$", color=colour, linewidths=0.3)
    ax.set(title=title, xticks=[], yticks=[])


def draw(path):
    """Fit both models to digits at each size, and draw codes and errors of held-out digits."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, _, y_test = train_test_split(X, y, random_state=0)
    models = {
        "PCA": [PCA(size).fit(X_train) for size in SIZES],
        "skae": [AutoencoderTransformer(size, random_state=0).fit(X_train) for size in SIZES],
    }
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", width_ratios=(3, 3, 2.4))
    for place, (name, fitted) in enumerate(models.items()):
        draw_codes(axes[place], f"{name}: two components", fitted[0].transform(X_test), y_test)
        errors = [reconstruction_error(model, X_test) for model in fitted]
        print(name, *(f"{error:.2f}" for error in errors))
        bars = axes[2].bar(
            [group + 0.4 * place for group in range(len(SIZES))], errors, 0.38, color=(GREY, BLUE)[place], label=name
        )
        axes[2].bar_label(bars, fmt="%.1f", fontsize=8)
    axes[2].set_xticks([group + 0.2 for group in range(len(SIZES))], SIZES)
    axes[2].set(title="Error on held-out digits", xlabel="components", yticks=[])
    axes[2].spines[["top", "right", "left"]].set_visible(False)
    axes[2].legend(frameon=False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    draw(Path(__file__).parent / "images/digits.png")
