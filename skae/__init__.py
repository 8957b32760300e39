"""Autoencoders as scikit-learn estimators, which start as PCA or factor analysis, on PyTorch."""

from skae._autoencoder import AutoencoderTransformer
from skae._imputer import ModelImputer
from skae._resampled import ResampledGenerator
from skae._search import LatentSizeCV
from skae._vae import VAEGenerator
from skae._version import __version__
from skae.inspection.codes import LatentSpaceDisplay
from skae.inspection.comparison import Comparison, compare
from skae.inspection.curves import LatentSizeDisplay, LossCurveDisplay
from skae.inspection.loadings import LoadingsDisplay, component_importance
from skae.inspection.metrics import reconstruction_error, reconstruction_scorer
from skae.inspection.rows import LatentTraversalDisplay, ReconstructionDisplay, SampleDisplay
from skae.inspection.synthetic import SyntheticDisplay, SyntheticEvaluation, evaluate_synthetic
from skae.persistence.onnx import to_onnx
from skae.persistence.state import TRUSTED_TYPES

__all__ = [
    "TRUSTED_TYPES",
    "AutoencoderTransformer",
    "Comparison",
    "LatentSizeCV",
    "LatentSizeDisplay",
    "LatentSpaceDisplay",
    "LatentTraversalDisplay",
    "LoadingsDisplay",
    "LossCurveDisplay",
    "ModelImputer",
    "ReconstructionDisplay",
    "ResampledGenerator",
    "SampleDisplay",
    "SyntheticDisplay",
    "SyntheticEvaluation",
    "VAEGenerator",
    "__version__",
    "compare",
    "component_importance",
    "evaluate_synthetic",
    "reconstruction_error",
    "reconstruction_scorer",
    "to_onnx",
]
