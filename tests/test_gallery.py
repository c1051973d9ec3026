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

# what to ask of the picture in the gallery, or of the demo's, and what a reader should say
QUESTIONS = {
    "maso_rnn.template": ("Where does ink add to the class?", "under red"),
    "maso_rnn.sequence": ("What does the network read?", "the digit"),
    "maso_rnn.templates_beside_input": ("Which class's template matches best, and by what score?", "the framed one"),
    "maso_rnn.barcode": ("Which units are on nearly all the time?", "those at the top, black"),
    "maso_rnn.code_map": ("Do codes of one digit lie together?", "mostly, each in its colour"),
    "maso_rnn.right_and_wrong": ("Is the median margin above 0 where the network is right?", "yes, the dashed line"),
    "maso_rnn.within_and_between": ("Are codes of one class nearer to each other?", "yes, the blue bars lie left"),
    "maso_rnn.nearest_wall": ("Within what distance have half of the inputs a wall?", "the number in the legend"),
    "maso_rnn.over_training": ("Which of the two has the lower loss at the end?", "with noise"),
    "maso_rnn.regions_through_time": ("After how many steps has each input its own region?", "where dots meet dashes"),
    "maso_rnn.scores_along": (
        "Which classes win on the way, and where does the answer change?",
        "those that lead; dashes",
    ),
    "maso_rnn.breakpoint_density": ("Are the breakpoints spread evenly?", "about, by the heights of the bars"),
    "maso_rnn.plane": ("Where does the decision change?", "along the thick lines, across many pieces"),
    "maso_rnn.mark_corners": ("Which input lies at the lower left?", "the one named there"),
    "maso_rnn.frame": ("Which part is meant?", "the one inside the rectangle"),
    "maso_rnn.measured_and_predicted": ("Up to which noise does the prediction hold?", "where points leave the line"),
    "maso_rnn.region_changes": ("At which noise do half of the samples leave?", "where the line crosses one half"),
    "maso_rnn.rounds_by_length": ("Are there fewer rounds than steps?", "yes where below the dashed line"),
    "maso_rnn.eigenvalue_cloud": ("Do any modes grow?", "those outside the circle, counted in the legend"),
    "maso_rnn.horizon_histogram": ("How many modes keep for 1,000 steps or more?", "the number in the legend"),
    "maso_rnn.power_growth": ("Do powers grow more than the radius says?", "where full lines lie above dashed ones"),
    "maso_rnn.memory_measured": ("Is memory as long as predicted?", "on the diagonal; below it, shorter"),
    "maso_rnn.fixed_points_among_states": (
        "Where does the network settle?",
        "at the full dots; the legend counts them",
    ),
    "maso_rnn.eigenvalues_of_points": ("Which points let go of states?", "those with eigenvalues outside the circle"),
    "maso_rnn.fixed_points_along_line": ("At which input does a point vanish?", "where its line ends"),
    "maso_rnn.perturbation_growth": ("Does a change fade?", "yes where the lines fall below 1"),
    "maso_rnn.linear_errors": ("How far may the input move for an error of a tenth?", "where the line crosses 0.1"),
    "maso_rnn.draw_states": ("After which words does it accept?", "those that end in a state with two circles"),
    "path_opt.draw_graph": ("Which weights are frozen?", "the thick orange and black ones"),
    "srnn.first_order": ("For how long is an impulse felt?", "until the curve meets 0"),
    "srnn.second_order": ("When do two impulses act together most?", "where the colour is strongest"),
    "srnn.against_amplitude": ("Up to which amplitude does the series hold?", "where the line leaves the points"),
    "srnn.truncation": ("Is the bound of use?", "where it is drawn; the heading says where not"),
    "srnn.compared": ("Which method has the least variance?", "the leftmost"),
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


def test_no_question_is_left_of_a_picture_that_went():
    assert QUESTIONS.keys() == set(plotting_functions())
