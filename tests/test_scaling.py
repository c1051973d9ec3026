"""The page on sizes says what its formulas say, and these what XLA counts; the script for a GPU runs, and is quoted."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import maso_rnn
from benchmarks import gpu, results, scaling


@pytest.mark.parametrize("table", [scaling.formulas, scaling.sizes, scaling.gradients, scaling.on_a_gpu])
def test_the_page_has_the_tables_as_they_are_made(table):
    page = scaling.PAGE.read_text()
    assert scaling.with_table(page, table.__name__, table()) == page


def test_a_cost_is_written_as_it_is_computed():
    cost, size = scaling.Cost({"HHH": 4, "TH": 1, "": 2}), scaling.Size(N=7, T=3, H=2, I=5, O=1)
    assert cost.at(size) == 4 * 8 + 3 * 2 + 2
    assert str(cost) == "4·H³ + T·H + 2"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), scaling.CHECKED, ids=str)
def test_formulas_say_what_xla_counts(name, size):
    with jax.enable_x64(False):
        found = scaling.check(scaling.WORKS[name], size)
    # beyond the terms of the formulas there are index arithmetic and buffers of a few numbers
    assert found.results != found.results or 0.99 < found.results < 1.02
    assert 0.3 < found.temporaries < 1.05
    assert 0.9 < found.operations < 1.1


def test_a_gradient_over_devices_moves_its_own_size():
    size = scaling.Size(N=4, T=3, H=8, I=2, O=5)
    rnn = maso_rnn.init(jax.random.key(0), size.I, [size.H], size.O)
    sharding = NamedSharding(Mesh(jax.devices()[:2], ("examples",)), PartitionSpec("examples"))
    xs = jax.device_put(jnp.ones((size.N, size.T, size.I)), sharding)

    def loss(rnn, xs):
        return (jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs) ** 2).mean()

    text = jax.jit(jax.value_and_grad(loss)).lower(rnn, xs).compile().as_text()
    reduced = 0
    for shapes in re.findall(r"= (\S.*?) all-reduce\(", text):
        for dimensions in re.findall(r"f64\[([\d,]*)\]", shapes):
            reduced += int(jnp.prod(jnp.asarray([int(d) for d in dimensions.split(",") if d], int)))
    assert reduced == scaling.parameters(size) + 1  # and the loss


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_on_a_cpu_which_is_not_quoted(tmp_path, monkeypatch, capsys):
    file = tmp_path / "reports" / "gpu.jsonl"
    monkeypatch.setattr("sys.argv", ["gpu", "--output", str(file)])
    with jax.enable_x64(False):
        gpu.main()
    lines = results.read(file)
    assert {line.configuration["work"] for line in lines} == gpu._SAID.keys()
    times = [line.result for line in lines if line.configuration["work"] != "codes"]
    assert all(value > 0 for result in times for value in result.values())
    assert capsys.readouterr().out.count("| not measured |") == len(gpu._SAID)


def test_a_crossover_is_where_the_rounds_stay_faster():
    def line(hidden, steps, scan, rounds):
        configuration = {"work": "parallel_forward", "hidden": hidden, "steps": steps}
        return results.Line(
            configuration, {"scan": scan, "rounds": rounds}, {"machine": "x86_64, 8 cores, gpu (A card)"}
        )

    lines = [line(8, 256, 1, 0.5), line(8, 1024, 1, 2), line(8, 4096, 2, 1), line(8, 16384, 2, 1)]
    lines += [line(64, 256, 1, 2), line(64, 1024, 1, float("nan"))]
    (row,) = [row for row in gpu.table(lines).splitlines() if "parallel_forward" in row]
    assert "8 units: 4,096 steps; 64 units: not up to 1,024 steps" in row
    assert "A card" in row
