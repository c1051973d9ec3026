"""Every claim, with the rule that decides on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks.claims import eigen, exact, path_space, response, spline
from benchmarks.claims.evidence import Evidence, Finding


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        name: paper and letter, as "spline-a".
        says: the claim.
        theirs: the paper's figure; "recalled" where it is from memory, "not had" where the text could not be obtained.
        differs: where data or size are not the paper's; of a claim that cannot be tested, why not.
        judge: from the published rows by experiment; none where it cannot be tested.
        rule: what `judge` decides by, in words.
        experiments: whose rows it reads.
    """

    name: str
    says: str
    theirs: str
    differs: str
    judge: Callable[[Evidence], Finding] | None = None
    rule: str = ""
    experiments: tuple[str, ...] = ()


NO_SIZE = "no data or size of the paper's to differ from"
SMALLER = "smaller images, shorter sequences, fewer units and steps than the paper's"

SPLINE = (
    Claim(
        "spline-a",
        "An RNN with piecewise affine, convex nonlinearities is a piecewise affine spline operator.",
        "a theorem",
        NO_SIZE,
        exact.is_affine_spline,
        "Over all random networks (ReLU, leaky ReLU, absolute value; one to three layers): the affine map of a piece "
        "rebuilds the output, and between the breakpoints of a line the output is straight, both to within 1e-12 of "
        "the largest output. *Holds* if both, *in part* if one.",
        ("exact",),
    ),
    Claim(
        "spline-b",
        "It partitions its input space during training, building the partition up through time.",
        "t-SNE of codes at several times, by class",
        f"pixel digits of 64 steps; {SMALLER}",
        spline.partitions,
        "After training, more pieces lie between two test sequences at the end than after an eighth of the time "
        "(logarithms, by more than two standard errors); and training has changed their number at the end. *Holds* if "
        "both, *in part* if one.",
        ("spline",),
    ),
    Claim(
        "spline-c",
        "The affine slope is an input-specific template; the right class has the larger inner product.",
        "two SST-2 templates with inner products",
        "digits in place of sentences",
        spline.templates,
        "The share of correctly predicted test sequences whose right class has the largest inner product with its "
        "template, less two standard errors: *holds* above 0.9, *in part* above 0.5.",
        ("spline",),
    ),
    Claim(
        "spline-d",
        "A random initial state is an explicit l2 regularisation of the affine parameters.",
        "a theorem; its printed form has two slips, and the corrected one is tested",
        f"penalty: {NO_SIZE}; training: {SMALLER}",
        spline.penalises,
        "On random networks, the loss that a little noise adds is the penalty predicted, within three standard errors "
        "or one in a hundred; and in training noise makes the norm of the initial slope smaller, by the rule of "
        "comparisons, one for each σ. *Holds* if both hold, *in part* if one or either in part.",
        ("exact", "spline"),
    ),
    Claim(
        "spline-e1",
        "Noise mollifies exploding gradients: ‖dL/dW_r‖ falls.",
        "curves of ‖A_h‖ and ‖dL/dW_r‖",
        SMALLER,
        spline.mollifies,
        "log10 of ‖dL/dW_r‖, mean over training, without noise less with it, at the same rate, one comparison for "
        "each σ; among pairs that both learned something (a dead network has no gradient). By the rule of comparisons.",
        ("spline",),
    ),
    Claim(
        "spline-e2",
        "With noise, higher learning rates are stable.",
        "curves for σ × learning rate × optimiser",
        SMALLER,
        spline.stabilises,
        "log10 of the largest rate tried at which something is learned (validation loss below 0.9 of an even guess), "
        "with noise less without, one comparison for each σ. By the rule of comparisons.",
        ("spline",),
    ),
    Claim(
        "spline-f",
        "Noise on the initial state improves generalisation: digits and adding.",
        "test accuracy, 1 layer .970 → .981 pixel, .891 → .922 permuted; 2 layers .969 → .987, .873 → .927",
        f"8×8 digits, 10,000 of MNIST by row, adding of 60 steps; {SMALLER}",
        spline.generalises,
        "Test accuracy with noise less without, one comparison for each task and number of layers, both tried with as "
        "many settings. By the rule of comparisons.",
        ("spline",),
    ),
    Claim(
        "spline-f, SST-2",
        "The same for SST-2.",
        "test accuracy, 1 layer .871 → .873; 2 layers .884 → .888",
        "SST-2 is in no package registry; benchmarks/data/words.py reads it as published",
    ),
    Claim(
        "spline-f, birds",
        "The same for bird audio.",
        "AUC 91 → 93 %",
        "freefield1010 is in no package registry; benchmarks/data/birds.py reads it as published",
    ),
    Claim(
        "spline-g",
        "Noise takes simple RNNs close to the state of the art.",
        "pixel digits .981 (1 layer), .987 (2) against LSTM .978, uRNN .951, scoRNN .985; permuted .922, .927 against "
        ".913, .914, .966",
        f"GRU and LSTM of the same width in place of uRNN and scoRNN; {SMALLER}",
        spline.comes_close,
        "On each task the best simple RNN with noise is less than 0.02 of test accuracy behind the better of GRU and "
        "LSTM, two standard errors allowed for. *Holds* if on all tasks, *in part* if on some.",
        ("spline",),
    ),
    Claim(
        "spline-h",
        "RMSprop tolerates σ = 5, SGD less.",
        "curves on MNIST",
        SMALLER,
        spline.tolerates,
        "Validation accuracy lost between σ = 0 and σ = 5, each at its best rate: under RMSprop less than 0.02 but "
        "for two standard errors; and more under SGD by two standard errors. *Holds* if both, *in part* if one.",
        ("spline",),
    ),
)

PATH_SPACE = (
    Claim(
        "path-a",
        "ReLU RNNs are positively scale-invariant, weights are not.",
        "not had",
        NO_SIZE,
        exact.is_invariant,
        "Under random rescalings outputs move by less than 1e-12 and weights by more than a tenth (relative). *Holds* "
        "if both, *in part* if one.",
        ("exact",),
    ),
    Claim(
        "path-b",
        "The values of all paths of the reduction graph, which removes the influence of time steps, represent the RNN "
        "sufficiently.",
        "not had",
        NO_SIZE,
        exact.is_represented,
        "Path values do not move under rescaling, and outputs computed back from path values and the signs of the "
        "frozen weights are the network's, both to within 1e-12; and paths drawn from sequences of 3 and of 24 steps "
        "have the same rank. *Holds* if both, *in part* if one.",
        ("exact",),
    ),
    Claim(
        "path-c",
        "The basis paths span it, and the skeleton method finds them efficiently.",
        "not had",
        NO_SIZE,
        exact.is_spanned,
        "On every network the basis paths have rank m − H (weights less hidden units), drawn paths add none to it, and "
        "computing all their values takes at most 3 operations a weight. *Holds* if all, *in part* if rank or cost.",
        ("exact",),
    ),
    Claim(
        "path-d",
        "Training in path space gives significantly more effective RNNs than training in weight space, on several "
        "benchmark data sets.",
        "not had",
        f"the paper's setting is known from a public trace only (28 rows of 28 pixels, 4 layers of 128); {SMALLER}",
        path_space.trains_better,
        "Test loss of SGD less that of SGD in path space, and of Adam less that of Adam in path space, from the same "
        "balanced start, in each setting. By the rule of comparisons.",
        ("path-space",),
    ),
    Claim(
        "path-sgd-a",
        "The first term κ¹ of the metric alone suffices in practice (Neyshabur et al. 2016).",
        "training curves on Penn Treebank words, 200 hidden units",
        f"digits by row and adding of 16 steps; {SMALLER}",
        path_space.first_term_suffices,
        "Test loss of Path-SGD with κ¹ alone less that with κ¹ + κ², each at its best rate, from orthogonal starts "
        "and near the identity. *Holds* if it is more by two standard errors in no setting, *in part* if in at most "
        "half.",
        ("path-metric", "exact"),
    ),
    Claim(
        "path-sgd-b",
        "Path-SGD improves ReLU RNNs over SGD, including on long dependencies (Neyshabur et al. 2016).",
        "sequential MNIST error 3.1 %, Penn Treebank characters 1.47 bits; recalled: IRNN 5.0, their IRNN 7.1, uRNN "
        "4.9, LSTM 1.8, np-RNN 3.1 %; RNN-ReLU 1.55, tanh 1.58, LSTM 1.41 bits",
        f"8×8 digits and fortunes in place of MNIST and Penn Treebank; {SMALLER}",
        path_space.path_sgd_trains_better,
        "Test loss of SGD less that of Path-SGD, from the same balanced start, in each setting. By the rule of "
        "comparisons.",
        ("path-space",),
    ),
    Claim(
        "g-sgd-a",
        "There are m − H basis paths, and weights are allocated from their values (Meng et al. 2019).",
        "a theorem",
        "recurrent networks in place of feed-forward ones",
        exact.is_allocated,
        "On every network the rank is weights less hidden units, and the weights allocated from the basis paths' "
        "values compute the same outputs to within 1e-12. *Holds* if both, *in part* if one.",
        ("exact",),
    ),
    Claim(
        "g-sgd-b",
        "G-SGD trains an MLP on MNIST better than SGD (Meng et al. 2019).",
        "accuracy 97.64 against 97.37 %, single runs from different seeds",
        "a feed-forward network; this library trains recurrent ones, see path-d",
    ),
)

RESPONSE = (
    Claim(
        "response-a",
        "The output of a driven SRNN is a Volterra series in the input.",
        "a theorem, no experiments",
        "16 tanh units, power drawn by appliances (ACSF1), three orders",
        response.is_volterra_series,
        "At amplitude 0.5 the series to the highest order misses the simulated response by less than 1 % but for two "
        "standard errors, and no error is above the bound: *holds*; by less than 10 %: *in part*.",
        ("response",),
    ),
    Claim(
        "response-b",
        "Its kernels are correlation functions of the unperturbed dynamics.",
        "a theorem; its first-order kernel is printed at equal times, the one at two times is tested",
        "tanh networks, and linear ones where the density is known in closed form",
        response.are_correlations,
        "Response by derivatives along paths against correlations, of orders 1 and 2, and the paper's correlation "
        "against the closed form: mean squared differences in standard errors no more than three standard errors "
        "above 1, where a kernel of zero would be above 10. *Holds* if all three, *in part* if some.",
        ("response",),
    ),
    Claim(
        "response-c",
        "Truncation improves with order for small inputs.",
        "a bound, no experiments",
        "16 tanh units, power drawn by appliances (ACSF1), orders 1 to 3",
        response.improves_with_order,
        "At amplitudes up to 0.5 the next order's error is smaller by more than two standard errors (logarithms). "
        "*Holds* if at every order, *in part* if at some.",
        ("response",),
    ),
    Claim(
        "response-d",
        "The response feature, the signature of the tensor product of the input with a basis of functions of time, is "
        "universal.",
        "a theorem, no experiments",
        "three known functionals of random waves; the product is integrated over time, as it has to be",
        response.is_universal,
        "For each functional, the test error falls from depth 1 to the deepest by more than two standard errors "
        "(logarithms) and is then below 0.05 of the variance, two standard errors allowed for. *Holds* if for all, "
        "*in part* if for some.",
        ("response",),
    ),
    Claim(
        "response-e",
        "SRNNs with only the readout trained are kernel machines on the space of that feature.",
        "a theorem, no experiments",
        "8 tanh units, 40 training sequences; kernels to order 2",
        response.is_kernel_machine,
        "Predictions of the trained readout approach those of the kernel machine, whose kernel comes from the "
        "undriven network: the difference goes as paths to the power −0.5 (two standard errors or 0.05 allowed) and "
        "ends below 0.1: *holds*; it falls: *in part*.",
        ("response",),
    ),
    Claim(
        "response-f",
        "The representer form holds with the Gram matrix ∏ exp⟨ΔX_l, ΔY_l⟩.",
        "a theorem, no experiments",
        "30 training sequences, signatures of depth 4",
        response.has_gram,
        "Predictions with that matrix and by inner products of explicit signatures: the difference falls as steps are "
        "divided, by two standard errors, and ends below 0.02 of the target's standard deviation. *Holds* if both, "
        "*in part* if one.",
        ("response",),
    ),
)

EIGEN = (
    Claim(
        "eigen-a",
        "Eigen-decomposition of the weight matrix explains how information decays and how long dependencies are kept.",
        "not had",
        "random networks of 32 units with the spectral radius 0.95, driven by noise",
        eigen.explains,
        "The horizon −1 / ln|λ| of every mode against the measured one: in linear networks within a thousandth; in "
        "tanh and ReLU networks Spearman's correlation over modes above 0.5, two standard errors allowed for. *Holds* "
        "if all, *in part* if some.",
        ("memory",),
    ),
    Claim(
        "eigen-b",
        "Activations change that.",
        "not had",
        "as eigen-a",
        eigen.activations_change_it,
        "The median over modes of the measured horizon over the predicted one differs from 1 by two standard errors. "
        "*Holds* if for tanh and ReLU at every loudness of the input, *in part* if for some.",
        ("memory",),
    ),
    Claim(
        "eigen-c",
        "Eigenvalues behave differently for regression and classification.",
        "not had",
        f"adding against digits and Tomita grammars; {SMALLER}",
        eigen.kinds_differ,
        "The change of the spectral radius by training, or of the median modulus, differs between regression and "
        "classification by two standard errors (means over tasks and initializers). *Holds* if in every cell, *in "
        "part* if in some.",
        ("eigen-init",),
    ),
    Claim(
        "eigen-d",
        "The eigen initializer improves performance consistently.",
        "not had",
        f"a reconstruction, as the text could not be had (`eigen-schur`); {SMALLER}",
        eigen.improves,
        "Test accuracy, or squared error with a minus, with it less with Glorot's, in each cell and task. By the rule "
        "of comparisons.",
        ("eigen-init",),
    ),
    Claim(
        "eigen-e",
        "It applies to RNN, LSTM and GRU.",
        "not had",
        "as eigen-d; of each gate by itself",
        eigen.applies,
        "By the same comparisons, cell by cell: it is behind Glorot's in no more tasks than chance would bring once in "
        "twenty times. *Holds* if in every cell, *in part* if in some.",
        ("eigen-init",),
    ),
    Claim(
        "eigen-f",
        "It outperforms Xavier, Kaiming and IRNN in several tasks: Tomita grammars and pixel-by-pixel digits.",
        "not had",
        'as eigen-d; of "sp-RNN", a further baseline, no definition is known',
        eigen.outperforms,
        "As eigen-d, against Glorot's (Xavier), He's (Kaiming) and the identity (IRNN). By the rule of comparisons.",
        ("eigen-init",),
    ),
    Claim(
        "eigen-f, Multi30k",
        "The same for translation on Multi30k.",
        "not had",
        "Multi30k is in no package registry; benchmarks/data/words.py reads it as published",
    ),
)

PAPERS: dict[str, tuple[Claim, ...]] = {
    "Wang, Balestriero, Baraniuk: A max-affine spline perspective of recurrent neural networks (2019)": SPLINE,
    "Wang, Meng, Chen, Liu, Ma, Liu: Path space for recurrent neural networks with ReLU activations (2019), with "
    "Path-SGD "
    "and G-SGD": PATH_SPACE,
    "Lim: Understanding recurrent neural networks using nonequilibrium response theory (2021)": RESPONSE,
    "Dou, Principe: Dynamic analysis and an eigen initializer for recurrent neural networks (2023)": EIGEN,
}
CLAIMS = {claim.name: claim for claims in PAPERS.values() for claim in claims}
