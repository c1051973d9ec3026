"""Everything that the papers claim: identities with the error allowed, and claims with what decides on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks import kernel_machine
from benchmarks.claims import eigen, identities, neighbours, path_space, response, spline
from benchmarks.claims.evidence import NOT_TESTABLE, NOT_TESTED, Comparison, Evidence, Verdict
from benchmarks.claims.identities import Measured

Compare = Callable[[Evidence], list[Comparison]]

ROUNDING = 1e-12  # relative, in float64, over sequences of twenty steps


@dataclasses.dataclass(frozen=True)
class Identity:
    """A theorem, or what cannot be otherwise, checked numerically.

    Attributes:
        name: paper and letter, as "spline-a".
        says: the theorem.
        of: what the error is.
        measure: the error, and of how many networks, from the published rows by experiment.
        bound: the largest error allowed.
        experiment: whose rows are read.
    """

    name: str
    says: str
    of: str
    measure: Callable[[Evidence], Measured]
    bound: float
    experiment: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim about training and data.

    Attributes:
        name: paper and letter, as "spline-b2".
        says: the claim.
        theirs: the paper's figure; "recalled" where it is from memory, "not had" where the text could not be obtained.
        rule: what is compared, in words.
        compare: the comparisons, from the published rows by experiment.
        control: what is put in place of what the claim is about, in words.
        fails: the comparisons of the control, which must not hold.
        experiments: whose rows are read.
        before: its verdict by the rule before this one; empty where there was none.
        changed: what the present rule has otherwise, and why.
    """

    name: str
    says: str
    theirs: str
    rule: str
    compare: Compare
    control: str
    fails: Compare
    experiments: tuple[str, ...]
    before: str = ""
    changed: str = ""


@dataclasses.dataclass(frozen=True)
class Untested:
    """A claim without results: its name, what it says, the paper's figure, its verdict, and why."""

    name: str
    says: str
    theirs: str
    verdict: Verdict
    why: str


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper: what is checked of it, and where the settings of its own experiments are others, by task."""

    title: str
    identities: Sequence[Identity]
    claims: Sequence[Claim]
    untested: Sequence[Untested] = ()
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


SPLINE = Paper(
    "Wang, Balestriero, Baraniuk: A max-affine spline perspective of recurrent neural networks (2019)",
    identities=(
        Identity(
            "spline-a",
            "An RNN with piecewise affine, convex nonlinearities is a piecewise affine spline operator.",
            "output rebuilt from the affine map, and straightness between breakpoints of a line, relative",
            identities.affine_spline,
            ROUNDING,
            "exact",
        ),
        Identity(
            "spline-b1",
            "It builds its partition up through time: a longer prefix has no fewer pieces.",
            "times at which there are fewer pieces than before",
            identities.growing,
            0,
            "spline",
        ),
        Identity(
            "spline-d1",
            "A random initial state is an explicit l2 penalty on the affine parameters (the printed form, with its two "
            "slips mended).",
            "added loss over predicted penalty, less 1",
            identities.penalty,
            0.01,
            "exact",
        ),
    ),
    claims=(
        Claim(
            "spline-b2",
            "It partitions its input space during training.",
            "t-SNE of codes at several times, by class",
            "Share of test sequences whose nearest other one, by the code of the last step, is of their class: after "
            "training and before.",
            spline.partitions,
            "another network before training, in place of the trained one",
            partial(spline.partitions, trained=False),
            ("spline",),
            "holds",
            "It counted pieces by time, which cannot but grow: that is spline-b1. What training does is judged here.",
        ),
        Claim(
            "spline-c",
            "The affine slope is an input-specific template; the right class has the larger inner product.",
            "two SST-2 templates with inner products",
            f"Accuracy of the largest inner product with a template and of the network: worse by less than "
            f"{spline.CLOSE:g}.",
            spline.templates,
            "templates of the network before training",
            partial(spline.templates, when="before"),
            ("spline",),
            "holds in part",
            "It looked at sequences that were predicted right, at levels of 0.9 and 0.5 that nothing set.",
        ),
        Claim(
            "spline-d2",
            "Trained with noise, the network has a smaller slope in the initial state.",
            "curves of ‖A_h‖",
            f"log10 of the norm of the slope at the end of training, with σ = {spline.USUAL:g}, the paper's for pixels "
            "in one layer, and without, of the runs that learned.",
            spline.penalises,
            f"σ = {spline.IDLE:g}, too small to do anything",
            spline.hardly_penalises,
            ("spline",),
            "holds in part",
            "It was judged together with the identity spline-d1, for three σ at once.",
        ),
        Claim(
            "spline-e1",
            "Noise mollifies exploding gradients: ‖dL/dW_r‖ falls.",
            "curves of ‖dL/dW_r‖",
            f"log10 of ‖dL/dW_r‖, mean over training and over the rates at which both learn, with σ = "
            f"{spline.USUAL:g} and without; only where some gradient without noise comes to {spline.EXPLODES:g} times "
            "what it was before training.",
            spline.mollifies,
            f"σ = {spline.IDLE:g}, too small to do anything",
            partial(spline.mollifies, sigma=spline.IDLE),
            ("spline",),
            "does not hold here",
            "Tasks and optimisers were pooled, correlated rows counted as separate evidence, and nothing asked whether "
            "any gradient explodes.",
        ),
        Claim(
            "spline-e2",
            "With noise, higher learning rates are stable.",
            "curves for σ × learning rate × optimiser",
            f"log10 of the largest rate tried at which something is learned, with σ = {spline.USUAL:g} and without.",
            spline.stabilises,
            f"σ = {spline.IDLE:g}, too small to do anything",
            partial(spline.stabilises, sigma=spline.IDLE),
            ("spline",),
            "holds in part",
            "As spline-e1; its threshold of learning, a validation loss of 0.9 of an even guess in place of one below "
            "the start's, was set when the results had been seen.",
        ),
        Claim(
            "spline-f",
            "Noise on the initial state improves generalisation: digits and adding.",
            "test accuracy, 1 layer .970 → .981 pixel, .891 → .922 permuted; 2 layers .969 → .987, .873 → .927",
            "Test accuracy with noise and without, both tried with as many settings at first.",
            spline.generalises,
            f"σ = {spline.IDLE:g}, too small to do anything",
            spline.hardly_generalises,
            ("spline",),
            "holds in part",
            "Differences are of the same seeds, which share start and batches, and corrected for their number.",
        ),
        Claim(
            "spline-f2",
            "Noise on the initial state improves generalisation: sentences (SST-2).",
            "test accuracy, 1 layer .871 → .873; 2 layers .884 → .888",
            "Test accuracy with noise and without, both tried with as many settings at first; trained on sentences "
            "alone and, which is closer to the paper's figures, on all phrases that are judged.",
            partial(spline.generalises, words=True),
            "without noise, from the seed before",
            spline.shuffled,
            ("spline",),
            NOT_TESTED,
            "It had no results.",
        ),
        Claim(
            "spline-g",
            "Noise takes simple RNNs close to the state of the art.",
            "pixel digits .981 (1 layer), .987 (2) against LSTM .978, uRNN .951, scoRNN .985; permuted .922, .927 "
            "against .913, .914, .966",
            f"Test accuracy of the best simple RNN with noise and of the better of GRU and LSTM, either chosen by "
            f"validation: worse by less than {spline.CLOSE:g}.",
            spline.comes_close,
            "the best simple RNN without noise",
            partial(spline.comes_close, regulariser="none"),
            ("spline",),
            "does not hold here",
            "The best were chosen by their test accuracy.",
        ),
        Claim(
            "spline-g2",
            "Noise takes simple RNNs close to the state of the art: sentences (SST-2).",
            ".873 (1 layer), .888 (2) against LSTM .849",
            f"As spline-g: worse than the better of GRU and LSTM by less than {spline.CLOSE:g}.",
            partial(spline.comes_close, words=True),
            "the best simple RNN without noise",
            partial(spline.comes_close, regulariser="none", words=True),
            ("spline",),
            NOT_TESTED,
            "It had no results.",
        ),
        Claim(
            "spline-h",
            "RMSprop tolerates σ = 5, SGD less.",
            "curves on MNIST",
            f"For each task: test accuracy under RMSprop with σ = 5 and without, worse by less than {spline.CLOSE:g}; "
            "and what it loses by σ = 5 and what SGD loses. Each at the rate best on the validation set.",
            spline.tolerates,
            "SGD in place of RMSprop",
            partial(spline.tolerates, tolerant="sgd", other="rmsprop"),
            ("spline",),
            "holds in part",
            "Two tasks that disagree were pooled.",
        ),
    ),
    untested=(
        Untested(
            "spline-f, birds",
            "Noise improves generalisation on bird audio.",
            "AUC 91 → 93 %",
            NOT_TESTABLE,
            "freefield1010 is not to be had",
        ),
    ),
    settings={
        "digits-by-pixel": "28×28 pixels, 784 steps, 128 units",
        "digits-permuted": "28×28 pixels, 784 steps, 128 units",
        "digits": "no task of the paper",
        "adding-ternary": "100 steps, 128 units",
        "sst-2": "128 units; trained on what, is not said",
    },
)

PATH_SPACE = Paper(
    "Wang, Meng, Chen, Liu, Ma, Liu: Path space for recurrent neural networks with ReLU activations (2019), with "
    "Path-SGD and G-SGD",
    identities=(
        Identity(
            "path-a",
            "ReLU RNNs are positively scale-invariant, weights are not.",
            "outputs after a rescaling that moves the weights by more than a tenth, relative",
            identities.invariant,
            ROUNDING,
            "exact",
        ),
        Identity(
            "path-b",
            "The values of all paths of the reduction graph, which removes the influence of time steps, represent the "
            "RNN sufficiently.",
            "path values after a rescaling, and outputs computed back from them, relative; the rank of paths is that "
            "of 3 steps at 24",
            identities.represented,
            ROUNDING,
            "exact",
        ),
        Identity(
            "path-c",
            "The basis paths span it, and the skeleton method finds them efficiently.",
            "rank of the basis, with and without drawn paths, less that of weights less hidden units; at most 3 "
            "operations a weight",
            identities.spanned,
            0,
            "exact",
        ),
        Identity(
            "g-sgd-a",
            "There are m − H basis paths, and weights are allocated from their values (Meng et al. 2019).",
            "outputs of the weights allocated, relative; the rank is m − H",
            identities.allocated,
            ROUNDING,
            "exact",
        ),
    ),
    claims=(
        Claim(
            "path-d",
            "Training in path space gives significantly more effective RNNs than training in weight space, on several "
            "benchmark data sets: from the papers' start, skeleton weights of 1.",
            "not had",
            "Test loss of SGD, SGD with momentum and Adam in path space, and of the same on weights, from the same "
            "start, with and without clipping.",
            path_space.trains_better,
            "SGD and Adam on weights with those frozen that path space freezes, from a balanced start",
            path_space.freezes,
            ("path-space",),
            "does not hold here",
            "Only a start was trained that is not the papers': balanced, with the largest weights as the skeleton.",
        ),
        Claim(
            "path-d, balanced",
            "The same from a balanced start, with this library's default skeleton.",
            "no claim of the paper's",
            "As path-d, of SGD and Adam.",
            path_space.trains_better_from_balance,
            "as path-d",
            path_space.freezes,
            ("path-space",),
            "does not hold here",
            "What diverged counts by seed; where nobody beats the constant prediction nothing is said.",
        ),
        Claim(
            "path-sgd-a",
            "The first term κ¹ of the metric alone suffices in practice (Neyshabur et al. 2016).",
            "training curves on Penn Treebank words, 200 hidden units",
            f"Test loss of Path-SGD with κ¹ alone and with κ¹ + κ²: higher by less than {path_space.SUFFICES:.0%}.",
            path_space.first_term_suffices,
            "no metric at all: SGD in place of Path-SGD with κ¹, which takes the place of the whole metric",
            path_space.no_term_suffices,
            ("path-metric", "path-space"),
            "holds in part",
            "Any two that few seeds cannot tell apart passed; now κ¹ must be shown to be no worse.",
        ),
        Claim(
            "path-sgd-b",
            "Path-SGD improves ReLU RNNs over SGD, including on long dependencies (Neyshabur et al. 2016).",
            "sequential MNIST error 3.1 %; recalled: IRNN 5.0, their IRNN 7.1, uRNN 4.9, LSTM 1.8, np-RNN 3.1 %",
            "Test loss of Path-SGD and of SGD, from the same balanced start.",
            path_space.path_sgd_trains_better,
            "SGD with the weights frozen that path space freezes, in place of Path-SGD",
            path_space.freezes_sgd,
            ("path-space",),
            "holds",
            "One run of five that diverged made SGD lose a setting, also where it was better whenever it survived, and "
            "settings counted in which neither beats the constant prediction.",
        ),
        Claim(
            "g-sgd-b",
            "G-SGD trains an MLP on MNIST better than SGD (Meng et al. 2019).",
            "accuracy 97.64 against 97.37 %, single runs from different seeds",
            "Test loss of SGD in path space and of SGD, of a network of one step, from skeleton weights of 1.",
            path_space.trains_an_mlp_better,
            "SGD with those weights frozen that path space freezes, from a balanced start, on sequences",
            path_space.freezes_sgd,
            ("path-space",),
            "not testable here",
            "It is the recurrent network of one step, and no other library is needed.",
        ),
    ),
    untested=(
        Untested(
            "path-sgd-b, Penn Treebank",
            "The same on characters of Penn Treebank.",
            "1.47 bits per character; recalled: RNN-ReLU 1.55, tanh 1.58, LSTM 1.41",
            NOT_TESTABLE,
            "Penn Treebank is not to be had",
        ),
    ),
    settings={
        "digits-10k-whole": "60,000 images",
        "digits-10k": "a public trace: 60,000 images, 4 × 128 units, no biases",
        "digits-by-pixel": "28×28 pixels, 784 steps, 100 units",
        "digits": "Penn Treebank words",
        "adding": "100 units; lengths not had",
        "fortunes": "Penn Treebank",
    },
)

RESPONSE = Paper(
    "Lim: Understanding recurrent neural networks using nonequilibrium response theory (2021)",
    identities=(
        Identity(
            "response-a",
            "The output of a driven SRNN is a Volterra series in the input.",
            "what the series to order 3 misses of the response at amplitude 0.5, relative",
            identities.series,
            0.01,
            "response",
        ),
        Identity(
            "response-b",
            "Its kernels are correlation functions of the unperturbed dynamics (at two times; printed at equal ones).",
            "squared difference in standard errors, of which chance gives 1",
            identities.correlations,
            2,
            "response",
        ),
        Identity(
            "response-c",
            "Truncation improves with order: errors grow with the amplitude to the power order + 1.",
            "measured power less that of the theory, orders 1 to 3",
            identities.orders,
            0.1,
            "response",
        ),
        Identity(
            "response-e",
            "SRNNs with only the readout trained are kernel machines on the space of the response feature.",
            "predictions of the two, relative, at 4,096 paths",
            identities.kernel_machine,
            0.1,
            "response",
        ),
        Identity(
            "response-f",
            "The representer form holds with the Gram matrix ∏ exp⟨ΔX_l, ΔY_l⟩.",
            "predictions by it and by explicit signatures of depth 4, in the target's deviations",
            identities.gram,
            0.02,
            "response",
        ),
    ),
    claims=(
        Claim(
            "response-d",
            "The response feature, the signature of the tensor product of the input with a basis of functions of time, "
            "is universal.",
            "a theorem, no experiments",
            f"Squared test error at the deepest signature, as a share of the variance, and a level of "
            f"{response.LEARNED:g}.",
            response.is_universal,
            "signatures of depth 1",
            partial(response.is_universal, depth=0),
            ("response",),
            "holds in part",
            "The same level, by the test that all claims are judged by.",
        ),
    ),
)

EIGEN = Paper(
    "Dou, Principe: Dynamic analysis and an eigen initializer for recurrent neural networks (2023)",
    identities=(
        Identity(
            "eigen-a1",
            "Eigenvalues say how long a linear network keeps information: −1 / ln|λ|.",
            "predicted and measured horizons of every mode, relative",
            identities.horizons,
            1e-3,
            "memory",
        ),
        Identity(
            "eigen-b",
            "Activations change that: slopes of at most 1, as of tanh and ReLU, shorten the horizons.",
            "networks whose measured horizons, median over modes, are not shorter than predicted",
            identities.shortened,
            0,
            "memory",
        ),
    ),
    claims=(
        Claim(
            "eigen-a2",
            "So they do, in order, where activations bend the dynamics.",
            "not had",
            f"Spearman's correlation of predicted and measured horizons over modes, and a level of {eigen.TOLD:g}; "
            "random networks.",
            eigen.explains,
            "measured horizons in a shuffled order",
            partial(eigen.explains, shuffled=True),
            ("memory",),
            "holds",
            "Linear networks, where it is a theorem, are now eigen-a1.",
        ),
        Claim(
            "eigen-c",
            "Eigenvalues behave differently for regression and classification.",
            "not had",
            "By how much the change in training of the spectral radius and of the median modulus differs between "
            "regression and classification of the same inputs (adding and ternary adding), and the largest such "
            "difference between any two classification tasks.",
            eigen.kinds_differ,
            "digits and a Tomita grammar, two classifications",
            partial(eigen.kinds_differ, tasks=("digits-by-pixel", "tomita-4")),
            ("eigen-init",),
            "holds in part",
            "It held adding against digits and grammars, other inputs, and found as much between digits and grammars.",
        ),
        Claim(
            "eigen-d",
            "The eigen initializer improves performance consistently.",
            "not had; a reconstruction, `eigen-schur`, as the text could not be had",
            "Test accuracy, or loss, with it and with Glorot's, in each cell and task.",
            eigen.improves,
            "He's initializer in its place",
            partial(eigen.improves, ours=eigen.OTHER),
            ("eigen-init",),
            "holds in part",
            "Differences are of the same seeds and corrected for their number; where both make next to no error "
            "nothing is said.",
        ),
        Claim(
            "eigen-e",
            "It applies to RNN, LSTM and GRU.",
            "not had; of each gate by itself",
            f"As eigen-d: worse by less than {eigen.CLOSE:g}.",
            eigen.applies,
            "the identity in its place",
            partial(eigen.applies, ours="identity"),
            ("eigen-init",),
            "holds",
            "It was found if few seeds could not tell it apart from Glorot's, a rule of which the share allowed to "
            "chance was set when the results had been seen.",
        ),
        Claim(
            "eigen-f",
            "It outperforms Xavier, Kaiming and IRNN in several tasks: Tomita grammars and pixel-by-pixel digits.",
            'not had; of "sp-RNN", a further baseline, no definition is known',
            "As eigen-d, against Glorot's (Xavier), He's (Kaiming) and the identity (IRNN).",
            eigen.outperforms,
            "He's initializer in its place, and it in He's",
            partial(eigen.outperforms, ours=eigen.OTHER, others=("glorot", eigen.OURS, "identity")),
            ("eigen-init",),
            "holds in part",
            "As eigen-d.",
        ),
    ),
    untested=(
        Untested(
            "eigen-f, Multi30k",
            "The same for translation on Multi30k.",
            "not had",
            NOT_TESTED,
            "Multi30k is read from files that are in no package registry; see the page on data sets",
        ),
    ),
    settings={
        "digits": "28×28 pixels, 784 steps; units not had",
        "tomita": "lengths and units not had",
        "adding": "not named in the abstract",
    },
)

AUTOMATA = Paper(
    "Li, Precup, Rabusseau: Connecting weighted automata, tensor networks and recurrent neural networks through "
    "spectral learning (2020)",
    identities=(
        Identity(
            "automata-a",
            "A minimal weighted automaton is recovered from exact blocks of its Hankel matrix.",
            "values on all words of up to 8 symbols, over the largest",
            neighbours.recovered("words"),
            ROUNDING,
            "automata",
        ),
        Identity(
            "automata-b",
            "A linear second-order RNN is recovered from sequences of vectors of three lengths.",
            "outputs on sequences of 9 vectors, over the largest",
            neighbours.recovered("vectors"),
            ROUNDING,
            "automata",
        ),
    ),
    claims=(
        Claim(
            "automata-c",
            "An automaton learned from a trained network says of longer words what the network does.",
            "not had; after Ayache, Eyraud and Goudian (2018)",
            "Share of words of twice the length trained on, of which the automaton decides as the network, and of the "
            "network's more frequent decision. The number of states is chosen on shorter words.",
            neighbours.agrees,
            "the automaton of one state",
            partial(neighbours.agrees, of="agreement_of_one_state"),
            ("automata",),
        ),
    ),
)

OSCILLATORS = Paper(
    "Rusch, Mishra: Coupled oscillatory recurrent neural network (coRNN) (2021)",
    identities=(
        Identity(
            "cornn-a",
            "States and gradients are bounded, however many steps there are; the bounds are of the scheme used.",
            "by how much a bound is exceeded, as a share of it",
            neighbours.bounded,
            0,
            "cornn",
        ),
    ),
    claims=(
        Claim(
            "cornn-b",
            "It learns long dependencies better than an LSTM and an IRNN.",
            "recalled: pixel digits .994, permuted .973; adding to 5,000 steps",
            "Test accuracy, or loss, of oscillators and of LSTM and IRNN, all tried with as many settings at first.",
            neighbours.oscillates,
            "the IRNN in its place, and it in the IRNN's",
            partial(neighbours.oscillates, ours="irnn", others=("lstm", "cornn")),
            ("cornn",),
        ),
    ),
    settings={"digits": "28×28 pixels, 784 steps, 128 or 256 units", "adding": "500 to 5,000 steps, 128 units"},
)

KERNEL_MACHINE = Paper(
    "Fermanian, Marion, Vert, Biau: Framing RNN as a kernel method: a neural ODE approach (2021)",
    identities=(
        Identity(
            "kernel-a",
            "What the expansion in the signature leaves out is bounded, order by order.",
            "by how much a bound is exceeded, as a share of it, orders 1 to 4",
            neighbours.within_bound,
            0,
            "kernel-machine",
        ),
        Identity(
            "kernel-b",
            "It grows with the size of the path to the power order + 1, of networks inside the theorem's condition.",
            "measured power less that of the theory, orders 1 to 4",
            neighbours.expansion_orders,
            0.1,
            "kernel-machine",
        ),
        Identity(
            "kernel-c",
            "A residual network comes near its differential equation as 1 over the number of steps.",
            "ratio of the gaps at 60 and at 120 steps, less 2",
            neighbours.network_gap,
            0.1,
            "kernel-machine",
        ),
    ),
    claims=(
        Claim(
            "kernel-d",
            "The norm in the space of the signature, as a penalty, makes networks robust.",
            "spirals under attack: curves",
            "Test accuracy under attacks of four sizes, with the penalty, of the strength best under attack on the "
            "validation set, and without.",
            neighbours.robust,
            f"a strength of {kernel_machine.IDLE:g}, too small to do anything",
            partial(neighbours.robust, among=(kernel_machine.IDLE,)),
            ("kernel-machine",),
        ),
    ),
    settings={"spirals": "100 steps, 32 units"},
)

LYAPUNOV = Paper(
    "Vogt, Puelma Touzel, Shlizerman, Lajoie: On Lyapunov exponents for RNNs (2022)",
    identities=(),
    claims=(
        Claim(
            "lyapunov-a",
            "The Lyapunov spectrum before and during training predicts the final accuracy.",
            "not had",
            "R² of networks that a regression has not seen, linear and with a kernel: from the spectrum, and before "
            "training from the spectral radius, after a tenth of it from the validation loss.",
            neighbours.predicts,
            "spectra of other networks",
            partial(neighbours.predicts, shuffled=True),
            ("lyapunov",),
        ),
    ),
)

PAPERS = (SPLINE, PATH_SPACE, RESPONSE, EIGEN, AUTOMATA, OSCILLATORS, KERNEL_MACHINE, LYAPUNOV)
IDENTITIES = {one.name: one for paper in PAPERS for one in paper.identities}
CLAIMS = {one.name: one for paper in PAPERS for one in paper.claims}
