"""Continuous-time stochastic RNNs: simulation, response kernels, Volterra series and signature features."""

from srnn.model import SRNN, drift, init
from srnn.response import Kernel, response_kernel
from srnn.simulation import Ensemble, simulate

__all__ = [
    "SRNN",
    "Ensemble",
    "Kernel",
    "drift",
    "init",
    "response_kernel",
    "simulate",
]
