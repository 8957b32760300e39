"""Write the sample report of the site, `sample-report.html`: `python docs/report.py`."""

import shutil
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from sklearn.datasets import load_wine

from skae.__main__ import main


def write(path):
    """Write what the command writes for scikit-learn's wines, as a CSV file with a column of classes."""
    wine, path = load_wine(as_frame=True), Path(path).absolute()
    table = wine.data.assign(cultivar=wine.target_names[wine.target])
    printed = StringIO()
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(printed), redirect_stderr(printed):
        table.to_csv("wine.csv", index=False)
        options = ["--target", "cultivar", "--n-components", "2", "4", "--cv", "3", "--n-jobs", "1"]
        if main(["compare", "wine.csv", *options]):
            raise RuntimeError(printed.getvalue())
        shutil.copy("report.html", path)


if __name__ == "__main__":
    write("sample-report.html")
