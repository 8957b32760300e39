"""Progress of a comparison on stderr: a bar with the time left, and the rows of a size when it is done."""

import sys


class Silent:
    """No progress."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def done(self, text=""):
        """Count a fit, and print what it completes."""


class Bar(Silent):
    """A bar of fits.

    Parameters
    ----------
    n_fits : int
    """

    def __init__(self, n_fits):
        from tqdm.auto import tqdm  # comes with skorch

        self.bar = tqdm(total=n_fits, unit="fit", file=sys.stderr, smoothing=0.05)

    def __exit__(self, *error):
        self.bar.close()

    def done(self, text=""):
        if text:
            self.bar.write(text, file=sys.stderr)
        self.bar.update()
