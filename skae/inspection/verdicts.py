"""What a comparison says, question by question: prediction, reconstruction, density.

A question is a subclass of `Question` with `answer`, sentences on all sizes, and `headline`, a number and what it is
of, or None. It is an entry of `QUESTIONS`.
"""

import numpy as np

from skae.inspection.intervals import corrected_interval

# An error above this share of PCA's is no reason to replace PCA.
_LARGEST_GAINFUL_SHARE = 0.98
# Smaller differences in log-density, in nats per sample, are rounding in what is printed.
_SMALLEST_GAIN = 0.005
# Names of the default estimators within a sentence.
_SPOKEN = {"AutoencoderTransformer": "the autoencoder", "VAEGenerator": "the VAE", "FactorAnalysis": "factor analysis"}
_SPOKEN["none"] = "no reduction"
_NO_DIFFERENCE = "no difference that these samples can show"


def spoken(name):
    """Return the name of an estimator within a sentence."""
    return _SPOKEN.get(name, name)


class Question:
    """Base class of the questions: which cells (models of one size) have a measure, and which is the best.

    Parameters
    ----------
    comparison : Comparison
    """

    def __init__(self, comparison):
        self.comparison = comparison
        self.reference = comparison.reference

    def cells(self):
        """Return the measure over folds of each (name, size) that has it."""
        return {(name, size): values for size in self.comparison.sizes for name, values in self.at_size(size).items()}

    def at(self, size):
        """Yield sentences on a size."""
        return ()

    def choice(self):
        """Return the cell to use by this question; None if it does not choose."""


class PredictionQuestion(Question):
    """From which codes is the target predicted best, and better than from all columns and than by a constant?"""

    def at_size(self, size):
        if "target_score" not in self.comparison.results:
            return {}
        scores = {name: self.comparison.folds("target_score", name, size) for name in self.comparison.names}
        return {name: values for name, values in scores.items() if len(values) and np.isfinite(values).all()}

    def at(self, size):
        scores = self.at_size(size)
        own = scores.pop(self.reference, None)
        if own is None or not scores:
            return
        best = max(scores, key=lambda name: scores[name].mean())
        gain, label = corrected_interval(scores[best] - own), self.comparison.prediction.label
        stay = "" if gain.low > 0 else ": stay with " + self.reference
        yield (f"the {label} from codes of {spoken(best)} is {_apart(gain)} {self.reference}'s {_signed(gain)}{stay}.")

    def chosen(self):
        """Return the cell to use, the best cell, and the interval of the best less the reference's best."""
        cells = self.cells()
        best = max(cells, key=lambda cell: cells[cell].mean())
        own = [cell for cell in cells if cell[0] == self.reference]
        stay = max(own, key=lambda cell: cells[cell].mean(), default=best)
        gain = _difference(cells[best], cells[stay])
        return (best if gain.low > 0 else stay), best, gain

    def answer(self):
        cells, prediction = self.cells(), self.comparison.prediction
        if not cells:
            return
        (chosen, best, gain), label = self.chosen(), prediction.label
        described = f"{_codes(chosen)}, {label} {cells[chosen].mean():.3f}"
        if chosen != best:
            others = f"{_codes(best)} has {cells[best].mean():.3f}"
            described = f"stay with {described}. {others[0].upper()}{others[1:]}, {_NO_DIFFERENCE} {_signed(gain)}"
        elif chosen[0] == self.reference:
            described = f"stay with {described}, which no other codes exceed"
        elif gain.low > 0:
            described += f", {gain.mean:.3f} above the best of {self.reference} {_signed(gain)}"
        yield f"For prediction by {prediction.predictor}: {described}."
        yield from self._baselines(cells[chosen])

    def choice(self):
        """Return the cell to use, or None."""
        return self.chosen()[0] if self.cells() else None

    def headline(self):
        if not (cells := self.cells()):
            return None
        chosen, *_ = self.chosen()
        return f"{cells[chosen].mean():.3f}", f"{self.comparison.prediction.label} from {_codes(chosen)}"

    def _baselines(self, scores):
        """Compare the codes to use with all columns, and with a constant prediction."""
        if not self.comparison.prediction.baselines:
            return
        baselines = self.comparison.prediction.baselines.items()
        (everything, all_columns), (constant, dummy) = ((name, values[: len(scores)]) for name, values in baselines)
        lost, gained = _difference(scores, all_columns), _difference(scores, dummy)
        found = f", {_NO_DIFFERENCE}" * (lost.low <= 0 <= lost.high)
        yield (
            f"The {self.comparison.prediction.label} from these codes is {_apart(lost)} that from {everything}, "
            f"{np.mean(all_columns):.3f} {_signed(lost)}{found}. It is {_apart(gained)} that of {constant}, "
            f"{np.mean(dummy):.3f} {_signed(gained)}."
        )
        if gained.low <= 0:
            yield f"These samples do not show that any codes here predict the target better than {constant}."


class ReconstructionQuestion(Question):
    """Which model has a smaller held-out error than the reference?"""

    def at_size(self, size):
        """Return for each other model with an error that error over the reference's."""
        reference = self.comparison.folds("error", self.reference, size)
        is_exact = (self.comparison.folds("r2", self.reference, size) > 1 - 1e-12).any()
        if is_exact or not (reference > 0).all() or not len(reference):
            return {}
        names = [name for name in self.comparison.names if name != self.reference]
        errors = {name: self.comparison.folds("error", name, size) for name in names}
        return {name: e / reference for name, e in errors.items() if len(e) and np.isfinite(e).all()}

    def at(self, size):
        for name, shares in self.at_size(size).items():
            share = corrected_interval(shares)
            stay = "" if _is_gain(share) else f": stay with {self.reference}"
            percent = f"{100 * share.mean:.0f} % of {self.reference}'s {_percent(share)}"
            yield f"the error of {spoken(name)} is {percent}{stay}."

    def gains(self):
        """Return the intervals of the cells that have a smaller error than the reference."""
        shares = {cell: corrected_interval(values) for cell, values in self.cells().items()}
        return {cell: share for cell, share in shares.items() if _is_gain(share)}

    def choice(self):
        """Return the cell to use, or None."""
        gains = self.gains()
        return min(gains, key=lambda cell: gains[cell].mean, default=None)

    def answer(self):
        if gains := self.gains():
            name, size = self.choice()
            share = gains[name, size]
            yield (
                f"For reconstruction: {spoken(name)}, which at {components(size)} has {100 * share.mean:.0f} % of "
                f"{self.reference}'s error {_percent(share)}."
            )
            yield from self._fewer_components(name)
        elif cells := self.cells():
            found = self._no_gain(map(corrected_interval, cells.values()))
            yield f"For reconstruction: {found}stay with {self.reference}."

    def headline(self):
        shares = self.gains() or {cell: corrected_interval(values) for cell, values in self.cells().items()}
        if not shares:
            return None
        name, size = cell = min(shares, key=lambda cell: shares[cell].mean)
        found = "" if self.gains() else f", {self._no_gain([shares[cell]]).removesuffix('; ') or 'which is no gain'}"
        of = f"of {self.reference}'s error: {spoken(name)} with {components(size)}{found}"
        return f"{100 * shares[cell].mean:.0f} %", of

    def _no_gain(self, shares):
        """Say what shares of the reference's error show, where none is a gain."""
        shares = sorted(shares, key=lambda share: share.low > 1 or share.high < 1)
        if shares[0].low <= 1 <= shares[0].high:
            return f"{_NO_DIFFERENCE}; "
        return f"a gain of less than {100 - 100 * _LARGEST_GAINFUL_SHARE:.0f} %; " * any(s.high < 1 for s in shares)

    def _fewer_components(self, name):
        """Say with how many components a model certainly reaches the reference's error at the largest size."""
        *smaller, largest = self.comparison.sizes
        theirs = self.comparison.folds("error", self.reference, largest)
        for size in smaller if (theirs > 0).all() else ():
            share = corrected_interval(self.comparison.folds("error", name, size) / theirs)
            if share.high <= 1:
                of = f"{self.reference}'s error with {largest} {_percent(share)}"
                yield f"With {components(size)} it has {100 * share.mean:.0f} % of {of}."
                return


class DensityQuestion(Question):
    """Which model makes held-out samples most probable?"""

    def at_size(self, size):
        """Return the log-likelihoods of each model that has them; none at sizes where they are unbounded."""
        densities = {name: self.comparison.folds("log_likelihood", name, size) for name in self.comparison.names}
        is_bounded = size not in self.unbounded()
        return {
            n: values for n, values in densities.items() if is_bounded and len(values) and np.isfinite(values).all()
        }

    def unbounded(self):
        """Return the sizes at which a model has found a direction without noise."""
        results = self.comparison.results
        densities = zip(results["n_components"], results["log_likelihood"], strict=True)
        return sorted({size for size, value in densities if np.isposinf(value)})

    def at(self, size):
        densities = self.at_size(size)
        if len(densities) > 1:
            best, second = sorted(densities, key=lambda name: -densities[name].mean())[:2]
            gain = corrected_interval(densities[best] - densities[second])
            nats = f"{gain.mean:.2f} nats a sample above {spoken(second)}'s {gain.text('.2f')}"
            found = "" if _is_lead(gain) else f": {_NO_DIFFERENCE}"
            yield f"the highest log-likelihood is that of {spoken(best)}, {nats}{found}."

    def lead(self):
        """Return the best model over all sizes, the best other one, and the interval of their difference; or None."""
        densities = self.cells()
        ranked = sorted(densities, key=lambda cell: -densities[cell].mean())
        second = next((cell for cell in ranked if cell[0] != ranked[0][0]), None)
        return second and (ranked[0], second, _difference(densities[ranked[0]], densities[second]))

    def answer(self):
        if lead := self.lead():
            *cells, gain = lead
            ahead, behind = (f"{spoken(name)} with {components(size)}" for name, size in cells)
            if _is_lead(gain):
                nats = f"{gain.mean:.2f} nats a sample above {behind} {gain.text('.2f')}"
                yield f"For densities and new samples: {ahead}, {nats}."
            else:
                yield f"For densities: {_NO_DIFFERENCE} between {ahead} and {behind}; take the simpler one."
        if unbounded := self.unbounded():
            sizes = " and ".join(map(str, unbounded))
            yield (
                f"No densities are compared at {sizes} components: a linear model finds a direction without noise "
                "there, so densities have no upper bound. Drop columns that repeat others, or add noise."
            )

    def headline(self):
        if not (lead := self.lead()):
            return None
        (name, size), (other, _), gain = lead
        found = "" if _is_lead(gain) else f", {_NO_DIFFERENCE}"
        of = f"log-likelihood a sample: {spoken(name)} with {components(size)} over {spoken(other)}{found}"
        return f"{gain.mean:+.2f} nats", of


class TimeQuestion(Question):
    """What do the models to use cost?"""

    def answer(self):
        for name, size in self._others():
            mine, theirs = self._seconds(name, size)
            fit = f"a fit of {spoken(name)} at {components(size)} takes {mine:.2g} s"
            yield f"Time: {fit}, one of {self.reference} {theirs:.2g} s."

    def headline(self):
        size = self.comparison.sizes[-1]
        slowest = max(self.comparison.names, key=lambda name: self._seconds(name, size)[0])
        name, size = next(iter(self._others()), (slowest, size))
        mine, theirs = self._seconds(name, size)
        other = f"; {self.reference} takes {theirs:.2g} s" * (name != self.reference)
        return f"{mine:.2g} s", f"for a fit of {spoken(name)}{other}"

    def _others(self):
        """Return the cells to use whose model is not the reference, each once."""
        return list(dict.fromkeys(cell for cell in _choices(self.comparison) if cell[0] != self.reference))

    def _seconds(self, name, size):
        return [np.median(self.comparison.folds("fit_seconds", n, size)) for n in (name, self.reference)]


QUESTIONS = (PredictionQuestion, ReconstructionQuestion, DensityQuestion, TimeQuestion)


def best_cell(comparison):
    """Return the name and the size of the model to use: for prediction, else for reconstruction, else the reference."""
    return next(iter(_choices(comparison)), (comparison.reference, comparison.sizes[-1]))


def _choices(comparison):
    """Return the cells that the questions choose, in their order."""
    return [cell for question in QUESTIONS if (cell := question(comparison).choice())]


def _difference(scores, others):
    """Return the interval of the mean difference over the folds that both have, the first ones."""
    n = min(len(scores), len(others))
    return corrected_interval(scores[:n] - others[:n])


def _is_gain(share):
    """Return whether an error is below the reference's by enough to matter and by more than chance."""
    return share.mean <= _LARGEST_GAINFUL_SHARE and share.high < 1


def _is_lead(gain):
    """Return whether a difference of log-densities is more than chance and rounding."""
    return gain.low > 0 and gain.mean > _SMALLEST_GAIN


def _codes(cell):
    name, size = cell
    return f"{spoken(name)} with {components(size)}"


def _percent(share):
    return share._replace(low=max(share.low, 0)).text(".0f", 100, " %")


def components(size):
    """Return a number of components as text."""
    return f"{size} component{'s' if size > 1 else ''}"


def _apart(gain):
    """Return how far above or below something a score is."""
    return f"{abs(gain.mean):.3f} {'above' if gain.mean >= 0 else 'below'}"


def _signed(interval):
    return interval.text("+.3f")
