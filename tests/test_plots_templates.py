import numpy as np

from maso_rnn import plots


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
    assert texts == ["predicted right (2)", "median 1.5", "predicted wrong (1)", "median 3"]


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
