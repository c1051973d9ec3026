"""What the eigenvalues of a recurrent network say about its memory, and whether it is so.

Kernels are (in, out), states are rows: h_t = act(h_{t-1} @ W + …). The right eigenvectors of W, its columns V, turn a
state into modal coordinates c = h @ V, and in the linear network each of them only decays and turns,

    c_t = c_{t-1} λ,    |c_t| = |λ|^t |c_0|:    a memory of −1 / ln|λ| steps, turning once in 2π / |arg λ| of them.

Every other network bends that account: by the non-normality of W (modes that are nearly parallel add up to more than
they are), by the slope of the activation, by what training did to W. `spectrum` has the account, `pulse_decay` holds
it against the network, and `jacobian_spectra`, `lyapunov_exponents` and `fixed_points` do without it.

Cells are functions `step(carry, x) -> carry`, the carry any pytree of floating arrays, x (input,).
"""

from maso_rnn.dynamics.eigenvalues import (
    Spectrum,
    modal_coordinates,
    recurrent_kernels,
    spectra,
    spectrum,
    spectrum_table,
)
from maso_rnn.dynamics.fixed_point_search import (
    FixedPoints,
    fixed_points,
)
from maso_rnn.dynamics.jacobians import (
    JacobianSpectra,
    Lyapunov,
    jacobian_spectra,
    lyapunov_exponents,
)
from maso_rnn.dynamics.memory import (
    PulseDecay,
    pulse_decay,
)

__all__ = [
    "FixedPoints",
    "JacobianSpectra",
    "Lyapunov",
    "PulseDecay",
    "Spectrum",
    "fixed_points",
    "jacobian_spectra",
    "lyapunov_exponents",
    "modal_coordinates",
    "pulse_decay",
    "recurrent_kernels",
    "spectra",
    "spectrum",
    "spectrum_table",
]
