import itertools

import numpy as np

import maso_rnn
from maso_rnn import plots, style


def test_template_and_sequence_fold_alike():
    values = np.arange(6.0)[:, None]
    for draw in (plots.template, plots.sequence):
        np.testing.assert_array_equal(draw(values, image_shape=(2, 3)).images[0].get_array(), [[0, 1, 2], [3, 4, 5]])
        np.testing.assert_array_equal(draw(np.arange(6.0).reshape(3, 2)).images[0].get_array(), [[0, 2, 4], [1, 3, 5]])


def test_template_colours_are_even_about_zero():
    image = plots.template(np.array([[-1.0], [3.0]])).images[0]
    assert image.get_clim() == (-3.0, 3.0)
    assert plots.template(np.array([[-1.0], [3.0]]), limit=5.0).images[0].get_clim() == (-5.0, 5.0)


def test_right_and_wrong_puts_each_where_it_belongs():
    values, right = np.array([1.0, 2.0, 3.0, np.nan]), np.array([True, True, False, True])
    texts = [text.get_text() for text in plots.right_and_wrong(values, right, label="x").get_legend().get_texts()]
    assert texts == ["predicted right (2), median 1.5", "predicted wrong (1), median 3"]


def test_right_and_wrong_of_one_value_and_of_none():
    assert plots.right_and_wrong(np.ones(3), np.ones(3, bool), label="x").patches
    assert not plots.right_and_wrong(np.full(2, np.nan), np.ones(2, bool), label="x").patches


def test_over_training_draws_medians_and_leaves_out_what_a_log_axis_cannot_show():
    values = np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 6.0]])
    (line,) = plots.over_training([0, 1], {"a": values}, label="x", log=True).lines
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 2.0])
    many = {str(i): np.ones(2) for i in range(9)}
    assert len(plots.over_training([0, 1], many, label="x").lines) == 9


def test_the_best_match_is_framed_and_scores_are_inner_products():
    xs = np.array([[1.0], [2.0]])
    slope = np.array([[[1.0], [0.0]], [[0.0], [-1.0]], [[1.0], [1.0]]])
    axes = plots.templates_beside_input(xs, slope, image_shape=(1, 2), name="input: 2", said="right: 2")
    assert [panel.get_title() for panel in axes] == ["input: 2", "0: +1.0", "1: -2.0", "2: +3.0"]
    assert [panel.spines["top"].get_linewidth() for panel in axes[1:]] == [0.5, 0.5, 3]
    some = plots.templates_beside_input(xs, slope, shown=[0, 1], image_shape=(1, 2))
    assert [panel.spines["top"].get_linewidth() for panel in some[1:]] == [0.5, 0.5]  # the best is not shown


def test_barcode_stacks_layers_and_keeps_an_order_given():
    codes = [np.array([[False, True], [True, True]]), np.array([[2], [0]], np.uint8)]
    rows = plots.barcode(codes).images[0].get_array()
    np.testing.assert_array_equal(rows, [[1, 1], [0, 1], [2, 0]])
    order = [np.array([0, 1]), np.array([0])]
    np.testing.assert_array_equal(plots.barcode(codes, order=order).images[0].get_array()[0], [0, 1])


def test_code_map_marks_the_commonest_classes_and_holds_equal_codes():
    codes, classes = np.eye(24), np.append(np.repeat(np.arange(11), 2), [0, 1])
    drawn = plots.code_map(codes, classes)
    assert [len(points.get_offsets()) for points in drawn.collections] == [2, 3, 3] + [2] * 8  # grey, then ten classes
    assert plots.code_map(np.ones((3, 2)), np.zeros(3)).get_xlabel().startswith("first component, 0%")


def test_distances_that_are_all_equal_are_drawn():
    drawn = plots.within_and_between(np.zeros(3), np.array([True, True, False]), label="distance")
    assert drawn.get_xlim()[0] < 0 < drawn.get_xlim()[1]


def test_who_leads_is_coloured_and_the_runner_up_named():
    # scores (-x, 1/2, x, -9) from -1 to 1 in one piece: the second leads between the ends only
    outputs = np.array([[1.0, 0.5, -1.0, -9.0], [-1.0, 0.5, 1.0, -9.0]])
    found = maso_rnn.slices.Decisions(np.array([0.25, 0.75]), np.array([0, 1, 2]))
    axes = plots.scores_along(np.array([0.0, 1.0]), outputs, found)
    named = {text.get_text() for text in axes.get_legend().get_texts()}
    assert named == {"class 0: leads", "class 1: leads", "class 2: leads", "other classes", "the decision changes"}
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.25, 0.75]
    steady = plots.scores_along(np.array([0.0, 1.0]), np.array([[3.0, 1.0, 0.0], [3.0, 0.0, 2.0]]))
    assert [t.get_text() for t in steady.get_legend().get_texts()][:2] == ["class 0: leads", "class 2: closest rival"]


def test_walls_nearer_than_each_distance():
    line = plots.nearest_wall({"a": np.array([0.0, 0.1, 0.2, 0.4])}).lines[0]
    shares = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert [shares[at] for at in (0.1, 0.2, 0.4)] == [0.5, 0.75, 1.0]
    plots.nearest_wall({"a": np.zeros(3)}).figure.savefig("/dev/null", format="png")


def test_only_steps_at_which_counts_change_are_drawn():
    counts = np.concatenate([np.arange(1, 11), np.full(90, 10)])
    assert plots.regions_through_time({"a": counts}, sequences=10).get_xlim()[1] < 20


def test_a_cost_that_falls_is_hollow():
    axes = plots.measured_and_predicted([0.1, 1.0], {"a": (np.array([-1.0, 1.0]), np.ones(2), np.ones(2))})
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in hollow] == [[1.0]]


def test_a_cloud_at_the_circle_fills_the_picture_and_one_at_the_centre_keeps_the_circle():
    near = 1 + 0.1 * np.exp(2j * np.pi * np.arange(8) / 8)
    axes = plots.eigenvalue_cloud({"near": near})
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < near.real.min() < near.real.max() < right < 1.2
    assert bottom < near.imag.min() < near.imag.max() < top
    (points,) = (points for points in axes.collections if len(points.get_offsets()) == 8)
    np.testing.assert_array_equal(points.get_facecolors()[:, 3] > 0, np.abs(near) > 1)  # filled where modes grow
    whole = plots.eigenvalue_cloud({"small": 0.1 * near - 0.1})
    assert whole.get_xlim()[0] < -1 < 1 < whole.get_xlim()[1]


def _lab(colour, seen_by):
    """CIELAB of a colour as people with a kind of vision see it."""
    linear = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(seen_by @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_ten_colours_are_told_apart_by_colour_blind_readers():
    """Machado, Oliveira, Fernandes (2009), severity 1: deuteranopia, protanopia; and usual vision."""
    deuteranopia = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    protanopia = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    assert len(style.COLOURS) == 10
    for seen_by in (np.array(deuteranopia), np.array(protanopia), np.eye(3)):
        places = [_lab(colour, seen_by) for colour in style.COLOURS]
        apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)]
        assert min(apart) > 15  # a difference of 2 is just seen side by side
