"""Every public plotting function is in the gallery, and has a question that its picture must answer to a reader.

To judge a picture, show it alone with its caption to someone who has not seen the code, and ask the question here.
"""

import inspect
import re
from pathlib import Path

import pytest

import maso_rnn.plots
import maso_rnn.plots_automata
import maso_rnn.plots_dynamics
import path_opt.plots
import srnn.plots

GALLERY = (Path(__file__).parent.parent / "docs" / "gallery.md").read_text()
NOT_PICTURES = {"as_image", "barcode_order", "kinds", "principal_components"}

# what to ask of the picture in the gallery, and what a reader should say
QUESTIONS = {
    "maso_rnn.template": (
        "Where does ink add to the class, and where does it take from it?",
        "under red, most at the top right; under blue",
    ),
    "maso_rnn.sequence": ("What does the network read?", "a 1"),
    "maso_rnn.templates_beside_input": ("Which class's template matches best, and by what score?", "1, by +1.1"),
    "maso_rnn.barcode": ("How many units, about, are on at every step?", "five of 32, the black rows at the top"),
    "maso_rnn.code_map": ("Do codes of one digit lie together?", "mostly: 4, 6, 9 and 3 by themselves, 1 and 8 mixed"),
    "maso_rnn.right_and_wrong": (
        "Which template matches best where the network is right, and where it is wrong?",
        "that of the right class, by 6 in the median; another one's, by 3",
    ),
    "maso_rnn.within_and_between": ("Are codes of one class nearer to each other?", "yes: 0.14 against 0.23"),
    "maso_rnn.nearest_wall": ("Within what distance have half of the inputs a wall?", "about 0.002"),
    "maso_rnn.over_training": ("Which of the two has the lower loss at the end?", "with noise"),
    "maso_rnn.regions_through_time": ("After how many steps has each input its own region?", "4"),
    "maso_rnn.scores_along": (
        "Which classes win on the way, and where does the answer change?",
        "8, then 3, then 7; at 0.07 and 0.58",
    ),
    "maso_rnn.breakpoint_density": ("How many breakpoints does the fullest hundredth of the way hold?", "3"),
    "maso_rnn.plane": ("Where does the decision change?", "between 4 and 7 about halfway up, and near the 1"),
    "maso_rnn.mark_corners": ("Which input lies at the lower left?", "a 1"),
    "maso_rnn.frame": ("Which part is meant?", "the square left of the middle"),
    "maso_rnn.measured_and_predicted": ("Up to which noise does the prediction hold?", "0.0001"),
    "maso_rnn.region_changes": ("At which noise do half of the samples leave?", "about 0.005"),
    "maso_rnn.rounds_by_length": ("Are there fewer rounds than steps?", "yes, from 4 steps on"),
    "maso_rnn.eigenvalue_cloud": ("Do any modes grow, before training and after it?", "none before, 24 of 32 after"),
    "maso_rnn.horizon_histogram": ("How many modes keep for 1,000 steps or more?", "32 before training, 24 after"),
    "maso_rnn.power_growth": ("Do powers grow more than the radius says?", "a few times more after training"),
    "maso_rnn.memory_measured": (
        "Is memory as long as the eigenvalues predict?",
        "no: what should keep for ever lasts 40 to 400 steps, what should fade keeps",
    ),
    "maso_rnn.fixed_points_among_states": ("Where does the network settle?", "at the two full dots, left and right"),
    "maso_rnn.eigenvalues_of_points": ("Which points let go of states?", "the unstable one, in one direction"),
    "maso_rnn.fixed_points_along_line": ("At which input does a point vanish?", "at 0.2 and at 0.8 of the way"),
    "maso_rnn.perturbation_growth": (
        "Does every small change fade while the digit is read?",
        "no: one is nearly 3 times as large after 8 steps",
    ),
    "maso_rnn.linear_errors": ("How far may the input move for an error of a tenth?", "about 0.05 of its size"),
    "maso_rnn.draw_states": ("After which words does it accept?", "those with an even number of 1s"),
    "path_opt.draw_graph": ("Which weights are frozen?", "the thick orange and black ones"),
    "srnn.first_order": ("For how long is an impulse felt?", "about 2.5"),
    "srnn.second_order": ("When do two impulses act together most?", "when both are recent, 0.4 ago"),
    "srnn.against_amplitude": ("Up to which amplitude does the series hold?", "2"),
    "srnn.truncation": ("Is the bound of use?", "up to 2, ten to fifty times the error; not at 4"),
    "srnn.compared": ("Which method has the least variance?", "adjoint and tangent, 0.02 both"),
}


def plotting_functions():
    """By package and name, all public functions that draw."""
    for module in (maso_rnn.plots, maso_rnn.plots_automata, maso_rnn.plots_dynamics, path_opt.plots, srnn.plots):
        for name, value in vars(module).items():
            is_own = inspect.isfunction(value) and value.__module__ == module.__name__
            if is_own and not name.startswith("_") and name not in NOT_PICTURES:
                yield f"{module.__name__.split('.')[0]}.{name}"


@pytest.mark.parametrize("name", list(plotting_functions()))
def test_the_gallery_has_it_and_a_reader_can_be_asked(name):
    assert re.search(rf"plots(_automata|_dynamics)?\.{name.split('.')[1]}\(", GALLERY)
    assert name in QUESTIONS
    question, _ = QUESTIONS[name]
    assert f"*{question}*" in GALLERY


def test_no_question_is_left_of_a_picture_that_went():
    assert QUESTIONS.keys() == set(plotting_functions())
