"""Lines of Python that make and use an estimator."""

from collections import defaultdict

from sklearn.base import BaseEstimator

# What a program begins with that does not know where its samples come from.
_LOAD = ["X = ...  # your samples, as they were compared"]


def python_lines(estimator, load=()):
    """Return a program that fits an estimator and uses its codes.

    Parameters
    ----------
    estimator : object
    load : sequence of str, default=()
        Lines that make X, imports first.

    Returns
    -------
    str
    """
    imports = defaultdict(set)
    for part in _parts(estimator):
        module = [name for name in type(part).__module__.split(".") if not name.startswith("_")]
        imports[".".join(module)].add(type(part).__name__)
    lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(imports.items())]
    load = load or _LOAD
    n_imports = sum("import " in line for line in load)
    use = [f"model = {estimator.__repr__(N_CHAR_MAX=10_000)}", "codes = model.fit_transform(X)"]
    use += ["X_again = model.inverse_transform(codes)"] if hasattr(estimator, "inverse_transform") else []
    return "\n".join([*load[:n_imports], *lines, "", *load[n_imports:], *use])


def _parts(estimator):
    """Yield an estimator and the estimators in its parameters."""
    yield estimator
    for value in estimator.get_params(deep=True).values():
        if isinstance(value, BaseEstimator):
            yield value
