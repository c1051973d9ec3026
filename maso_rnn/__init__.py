"""The spline view of recurrent networks: which affine pieces an RNN is made of.

The network and its pieces:
    `init`, `RNN`, `Layer`, `Readout`, `forward`, `last_output`, `trajectory`, `initial_state`;
    `PiecewiseAffine`, `activation`, `relu`, `leaky_relu`, `abs`, `hard_tanh`, `identity`.
Any other recurrent network, from flax, PyTorch, equinox or Keras:
    `Cell`, `cell`; coupled oscillators: `cornn`, `cornn_bounds`. A `Cell` is taken wherever a step
    `(carry, x) -> carry` is taken.
Which affine map is it around this input, and does its template match?
    `affine_map`, `affine_maps`, `match`, `template_margin`; of any cell: `linearize`, `linearization_error`.
Which region is this, how far is its wall, and how many are there?
    `hamming`, `pack`, `unpack`, `count_regions`, `boundary_distance`; which codes rounding decides: `doubtful_codes`.
Which pieces lie on this line or plane, and where does the decision change?
    `walk_line`, `walk_line_on_device`, `affine_maps_along`, `partition_plane`; `decisions`, `decision_boundary`.
Why this answer, and how safe is it?
    `integrated_gradients` (exact along a line), `integrated_gradients_on_device`, `integrated_gradients_by_quadrature`;
    `output_bounds`, `certified_radius`, `nearest_change`.
Can all its steps be computed at once? (experimental)
    `parallel_forward`.
What does noise on the initial state do?
    `random_initial_state`, `noise_penalty`.
How should its eigenvalues start?
    `initializers`: `eigen`, `np_rnn`, `spectral_radius`, `per_gate`, and `initializers.identity` (`identity` itself
    is the activation).
Which automaton is near it?
    `automata`: weighted automata, learned from what any cell says of words.
What do its eigenvalues say about memory, and is it so?
    `spectrum`, `spectra`, `spectrum_table`, `recurrent_kernels`, `modal_coordinates`, `pulse_decay`,
    `jacobian_spectra`.
How does it compute: where does it rest, what does it repeat, and does it forget?
    `fixed_points`, `fixed_points_along`, `cycles`, `all_fixed_points`, `sample_states`; `lyapunov_exponents`,
    `kaplan_yorke_dimension`, `entropy_bound`.

Arrays and numbers may be NumPy's as well as JAX's. Shapes and dtypes that do not fit are refused always, values that
are not finite or out of range where they are known; traced ones show in the result, as NaN, infinity or a flag,
wherever it depends on them. Functions of one sequence take `length`: what stands beyond it changes no number. A
function of the caller is traced at each call, so that what it reads may change, and compiled once for what it does.

Networks from flax and PyTorch (`maso_rnn.adapters`) and in files (`maso_rnn.files`), and whole data sets in batches
(`maso_rnn.batches`), are imported by name.
The pictures (`maso_rnn.plots`) and the report (`maso_rnn.report`) need the `report` extra and are imported by name.
"""

from maso_rnn import automata, initializers
from maso_rnn.activations import (
    PiecewiseAffine,
    abs,
    activation,
    hard_tanh,
    identity,
    leaky_relu,
    relu,
)
from maso_rnn.adapters import cell
from maso_rnn.affine import (
    AffineMap,
    affine_map,
    affine_maps,
    match,
    template_margin,
)
from maso_rnn.attribution import (
    Attribution,
    integrated_gradients,
    integrated_gradients_by_quadrature,
    integrated_gradients_on_device,
)
from maso_rnn.bounds import (
    Bounds,
    Certificate,
    certified_radius,
    output_bounds,
)
from maso_rnn.cells import (
    Cell,
    Linearization,
    linearization_error,
    linearize,
)
from maso_rnn.codes import (
    RegionCounts,
    count_regions,
    doubtful_codes,
    hamming,
    pack,
    unpack,
)
from maso_rnn.counterfactuals import (
    NearestChange,
    nearest_change,
)
from maso_rnn.distances import boundary_distance
from maso_rnn.dynamics import (
    AllFixedPoints,
    Cycles,
    FixedPoints,
    JacobianSpectra,
    Lyapunov,
    PulseDecay,
    Spectrum,
    all_fixed_points,
    cycles,
    entropy_bound,
    fixed_points,
    fixed_points_along,
    jacobian_spectra,
    kaplan_yorke_dimension,
    lyapunov_exponents,
    modal_coordinates,
    pulse_decay,
    recurrent_kernels,
    sample_states,
    spectra,
    spectrum,
    spectrum_table,
)
from maso_rnn.initializers import (
    eigen,
    np_rnn,
    per_gate,
    spectral_radius,
)
from maso_rnn.network import (
    RNN,
    Layer,
    Readout,
    Trajectory,
    forward,
    init,
    initial_state,
    last_output,
    trajectory,
)
from maso_rnn.noise import (
    noise_penalty,
    random_initial_state,
)
from maso_rnn.oscillators import (
    CornnBounds,
    Oscillators,
    cornn,
    cornn_bounds,
)
from maso_rnn.parallel import (
    ParallelResult,
    parallel_forward,
)
from maso_rnn.slices import (
    Boundary,
    Decisions,
    LineWalk,
    PieceMaps,
    PlanePartition,
    affine_maps_along,
    decision_boundary,
    decisions,
    partition_plane,
    walk_line,
    walk_line_on_device,
)

__all__ = [
    "RNN",
    "AffineMap",
    "AllFixedPoints",
    "Attribution",
    "Boundary",
    "Bounds",
    "Cell",
    "Certificate",
    "CornnBounds",
    "Cycles",
    "Decisions",
    "FixedPoints",
    "JacobianSpectra",
    "Layer",
    "LineWalk",
    "Linearization",
    "Lyapunov",
    "NearestChange",
    "Oscillators",
    "ParallelResult",
    "PieceMaps",
    "PiecewiseAffine",
    "PlanePartition",
    "PulseDecay",
    "Readout",
    "RegionCounts",
    "Spectrum",
    "Trajectory",
    "abs",
    "activation",
    "affine_map",
    "affine_maps",
    "affine_maps_along",
    "all_fixed_points",
    "automata",
    "boundary_distance",
    "cell",
    "certified_radius",
    "cornn",
    "cornn_bounds",
    "count_regions",
    "cycles",
    "decision_boundary",
    "decisions",
    "doubtful_codes",
    "eigen",
    "entropy_bound",
    "fixed_points",
    "fixed_points_along",
    "forward",
    "hamming",
    "hard_tanh",
    "identity",
    "init",
    "initial_state",
    "initializers",
    "integrated_gradients",
    "integrated_gradients_by_quadrature",
    "integrated_gradients_on_device",
    "jacobian_spectra",
    "kaplan_yorke_dimension",
    "last_output",
    "leaky_relu",
    "linearization_error",
    "linearize",
    "lyapunov_exponents",
    "match",
    "modal_coordinates",
    "nearest_change",
    "noise_penalty",
    "np_rnn",
    "output_bounds",
    "pack",
    "parallel_forward",
    "partition_plane",
    "per_gate",
    "pulse_decay",
    "random_initial_state",
    "recurrent_kernels",
    "relu",
    "sample_states",
    "spectra",
    "spectral_radius",
    "spectrum",
    "spectrum_table",
    "template_margin",
    "trajectory",
    "unpack",
    "walk_line",
    "walk_line_on_device",
]
