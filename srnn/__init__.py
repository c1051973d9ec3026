"""Noisy systems in continuous time: simulation, response kernels, Volterra series and signature features.

Arrays and numbers may be NumPy's as well as JAX's. Shapes and dtypes that do not fit are refused always, values that
are not finite or out of range where they are known; traced ones show in the result, as NaN, infinity or a flag,
wherever it depends on them.
"""

from srnn.features import response_coefficients, response_feature, response_gram
from srnn.fluctuations import FluctuationDissipation, fluctuation_dissipation
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
    "System",
    "Timescales",
    "VolterraTerms",
    "drift",
    "fluctuation_dissipation",
    "from_rate_network",
    "init",
    "memory_timescales",
    "response_coefficients",
    "response_feature",
    "response_gram",
    "response_kernel",
    "signature",
    "simulate",
    "truncation_bound",
    "volterra",
    "volterra_terms",
]
