"""What the eigenvalues of a recurrent network say about its memory, and whether it is so.

Kernels are (in, out), states are rows: h_t = act(h_{t-1} @ W + …). The right eigenvectors of W, its columns V, turn a
state into modal coordinates c = h @ V, and in the linear network each of them only decays and turns,

    c_t = c_{t-1} λ,    |c_t| = |λ|^t |c_0|:    a memory of −1 / ln|λ| steps, turning once in 2π / |arg λ| of them.

Every other network bends that account: by the non-normality of W (modes that are nearly parallel add up to more than
they are), by the slope of the activation, by what training did to W. `spectrum` has the account, `pulse_decay` holds
it against the network, and `jacobian_spectra` and `lyapunov_exponents` do without it.

Where a network comes to rest is searched from many starts by `fixed_points`, its rhythms by `cycles`, for any cell;
`all_fixed_points` has every one of a piecewise affine network.

A step is a `Cell`, or a function `step(carry, x) -> carry`, the carry any pytree of floating arrays, x (input,).
"""

from maso_rnn.dynamics.cycle_search import (
    Cycles,
    cycles,
)
from maso_rnn.dynamics.eigenvalues import (
    Spectrum,
    modal_coordinates,
    recurrent_kernels,
    spectra,
    spectrum,
    spectrum_table,
)
from maso_rnn.dynamics.enumeration import (
    AllFixedPoints,
    all_fixed_points,
)
from maso_rnn.dynamics.exponents import (
    Lyapunov,
    entropy_bound,
    kaplan_yorke_dimension,
    lyapunov_exponents,
)
from maso_rnn.dynamics.fixed_point_search import (
    FixedPoints,
    fixed_points,
    fixed_points_along,
)
from maso_rnn.dynamics.jacobians import (
    JacobianSpectra,
    jacobian_spectra,
)
from maso_rnn.dynamics.memory import (
    PulseDecay,
    pulse_decay,
)
from maso_rnn.dynamics.starts import (
    sample_states,
)

__all__ = [
    "AllFixedPoints",
    "Cycles",
    "FixedPoints",
    "JacobianSpectra",
    "Lyapunov",
    "PulseDecay",
    "Spectrum",
    "all_fixed_points",
    "cycles",
    "entropy_bound",
    "fixed_points",
    "fixed_points_along",
    "jacobian_spectra",
    "kaplan_yorke_dimension",
    "lyapunov_exponents",
    "modal_coordinates",
    "pulse_decay",
    "recurrent_kernels",
    "sample_states",
    "spectra",
    "spectrum",
    "spectrum_table",
]
