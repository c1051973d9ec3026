"""Noisy systems in continuous time: simulation, response kernels, Volterra series and signature features.

What is the system, and where does it go?
    `SRNN`, `init`, `drift`; any other drift with additive noise: `System`, `from_rate_network`; its paths: `simulate`.
How does it answer its input?
    `response_kernel`, `volterra`, `volterra_terms`; what a truncated series misses at most: `truncation_bound`.
How long does it remember, and is it in equilibrium?
    `memory_timescales`, `fluctuation_dissipation`.
Which features of the input does the answer depend on?
    `signature`, `response_feature`, `response_coefficients`, `response_gram`; as scikit-learn estimators in
    `srnn.estimators`, which needs the `sklearn` extra and is imported by name.
Which function of the signature is a network without noise?
    `signature_coefficients`, `kernel_norm`; what its expansion leaves out at most: `expansion_bound`.

Arrays and numbers may be NumPy's as well as JAX's. Shapes and dtypes that do not fit are refused always, values that
are not finite or out of range where they are known; traced ones show in the result, as NaN, infinity or a flag,
wherever it depends on them.
"""

from srnn.features import response_coefficients, response_feature, response_gram
from srnn.fluctuations import FluctuationDissipation, fluctuation_dissipation
from srnn.kernel_machine import SignatureCoefficients, expansion_bound, kernel_norm, signature_coefficients
from srnn.memory import Timescales, memory_timescales
from srnn.model import SRNN, System, drift, from_rate_network, init
from srnn.response import Kernel, response_kernel
from srnn.signatures import signature
from srnn.simulation import Ensemble, simulate
from srnn.volterra_series import VolterraTerms, truncation_bound, volterra, volterra_terms

__all__ = [
    "SRNN",
    "Ensemble",
    "FluctuationDissipation",
    "Kernel",
    "SignatureCoefficients",
    "System",
    "Timescales",
    "VolterraTerms",
    "drift",
    "expansion_bound",
    "fluctuation_dissipation",
    "from_rate_network",
    "init",
    "kernel_norm",
    "memory_timescales",
    "response_coefficients",
    "response_feature",
    "response_gram",
    "response_kernel",
    "signature",
    "signature_coefficients",
    "simulate",
    "truncation_bound",
    "volterra",
    "volterra_terms",
]
