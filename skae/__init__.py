"""Autoencoders that start at PCA and stand where PCA stands: scikit-learn estimators over PyTorch nets."""

from skae._comparison import Comparison, compare
from skae._display import LatentSizeDisplay, LossCurveDisplay
from skae._display_codes import LatentSpaceDisplay
from skae._display_rows import LatentTraversalDisplay, ReconstructionDisplay, SampleDisplay
from skae._generator import VAEGenerator
from skae._metrics import reconstruction_error, reconstruction_scorer
from skae._onnx import to_onnx
from skae._search import AutoencoderTransformerCV
from skae._state import TRUSTED_TYPES
from skae._transformer import AutoencoderTransformer
from skae._version import __version__

__all__ = [
    "TRUSTED_TYPES",
    "AutoencoderTransformer",
    "AutoencoderTransformerCV",
    "Comparison",
    "LatentSizeDisplay",
    "LatentSpaceDisplay",
    "LatentTraversalDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
    "SampleDisplay",
    "VAEGenerator",
    "__version__",
    "compare",
    "reconstruction_error",
    "reconstruction_scorer",
    "to_onnx",
]
