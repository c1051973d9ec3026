"""Continuous-time stochastic RNNs: simulation, response kernels, Volterra series and signature features."""
