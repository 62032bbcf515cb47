"""Momentum against PyTorch and against arithmetic by hand; schedules; the watch."""

import math
import sys

import guard
import numpy as np
import pytest
from cuda_in_c import Module
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import backend
from unet_np.errors import InputError, TrainingError
from unet_np.network import UNet
from unet_np.network.init import store_weight
from unet_np.training.optim import SGD, Schedule, check_step, gradient_norm, squared_norm

torch = pytest.importorskip("torch")


def make(seed, dtype="float64", big=False):
    rng = np.random.default_rng(seed)
    shape = (64, 160, 3, 3) if big else (8, 4, 3, 3)
    return {
        "conv": store_weight("conv", rng.normal(size=shape), np, dtype),
        "up": store_weight("upconv", rng.normal(size=(6, 3, 2, 2)), np, dtype),
        "bias": rng.normal(size=5).astype(dtype),
    }


@settings(deadline=None, max_examples=25)
@given(
    st.floats(1e-5, 1.0),
    st.sampled_from([0.0, 0.5, 0.99]),
    st.sampled_from([0.0, 1e-3]),
    st.integers(0, 99),
)
def test_sgd_is_pytorchs(rate, momentum, decay, seed):
    params = make(seed)
    theirs = {name: torch.tensor(p.copy(), requires_grad=True) for name, p in params.items()}
    ours = SGD(params, rate, momentum, decay)
    reference = torch.optim.SGD(theirs.values(), rate, momentum, weight_decay=decay)
    for step in range(4):
        grads = make(1000 * seed + step)
        for name, tensor in theirs.items():
            tensor.grad = torch.tensor(grads[name].copy())
        ours.step(grads)
        reference.step()
    for name, tensor in theirs.items():
        np.testing.assert_allclose(params[name], tensor.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_sgd_by_hand_and_in_place():
    param = np.array([1.0])
    optimiser = SGD({"p": param}, 0.1, momentum=0.5)
    optimiser.step({"p": np.array([2.0])})  # v = 2, p = 0.8
    optimiser.step({"p": np.array([4.0])}, learning_rate=0.01)  # v = 5, p = 0.75
    assert param[0] == pytest.approx(0.75)
    assert optimiser.velocity["p"][0] == pytest.approx(5.0)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_step_is_the_same_on_a_device(xp, decay):
    params, grads = make(1, "float32"), [make(2, "float32"), make(3, "float32")]
    there = {name: backend.asarray(param, xp) + 0 for name, param in params.items()}
    here, theirs = SGD(params, 0.1, 0.9, decay), SGD(there, 0.1, 0.9, decay)
    for one in grads:
        here.step(one)
        theirs.step({name: backend.asarray(grad, xp) for name, grad in one.items()})
    for name, param in params.items():
        for got, expected in ((there, param), (theirs.velocity, here.velocity[name])):
            np.testing.assert_allclose(backend.to_numpy(got[name]), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("numbers", [(math.nan, 1), (1, math.nan), (1, math.inf), (1, 5), (3, 1)])
def test_a_device_leaves_out_what_check_step_refuses(xp, numbers):
    if xp is np:
        return
    param, grad = xp.ones(3), xp.full(3, xp.nan)
    optimiser = SGD({"p": param}, 0.1)
    optimiser.step({"p": grad}, None, xp.asarray(np.array(numbers, float)), 2.0, 2.0)
    assert backend.to_numpy(param).tolist() == [1, 1, 1]
    assert backend.to_numpy(optimiser.velocity["p"]).tolist() == [0, 0, 0]
    with pytest.raises(TrainingError):
        check_step(1, numbers[0], math.sqrt(numbers[1]), 2.0, 2.0)
    optimiser.step({"p": xp.ones(3)}, None, xp.asarray(np.array([2.0, 4.0])), 2.0, 2.0)
    assert backend.to_numpy(param).tolist() == pytest.approx([0.9] * 3)


@st.composite
def arrays(draw, dtypes=("f", "d")):
    """Parameters and gradients, each in a memory order of its own."""
    params, grads = {}, {}
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kinds = st.tuples(
        st.lists(st.integers(0, 5), max_size=4).map(tuple), st.sampled_from(dtypes), st.booleans()
    )
    some = draw(st.lists(kinds, max_size=6)) * draw(st.sampled_from([1, 1, 40]))
    for number, (shape, dtype, same) in enumerate(some):
        order = draw(st.permutations(range(len(shape)))) if number < 6 else range(len(shape))
        back, inner = np.argsort(order).astype(int), [shape[axis] for axis in order]
        params[str(number)] = rng.normal(size=inner).astype(dtype).transpose(back)
        grad = rng.normal(size=inner).astype(dtype).transpose(back)
        grads[str(number)] = grad if same else grad.copy(order="C")
    return params, grads


@given(arrays(), st.sampled_from([0.0, 0.1]))
def test_any_arrays_give_the_same_on_a_device(given, decay):
    """None, empty ones, single numbers, more than a table has room for, two dtypes, all orders."""
    params, grads = given
    with pytest.MonkeyPatch.context() as patch:
        for name, module in guard.modules().items():
            patch.setitem(sys.modules, name, module)
        there = {name: guard.GuardArray(param.copy(order="K")) for name, param in params.items()}
        sent = {name: guard.GuardArray(grad) for name, grad in grads.items()}
        here, theirs = SGD(params, 0.1, 0.9, decay), SGD(there, 0.1, 0.9, decay)
        for _ in range(2):
            here.step(grads)
            theirs.step(sent)
        assert gradient_norm(sent) == pytest.approx(gradient_norm(grads), rel=1e-12)
    for name, param in params.items():
        close = 1e-12 if param.dtype == float else 1e-6
        for got, expected in ((there, param), (theirs.velocity, here.velocity[name])):
            found = got[name]._array
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=close, atol=close)


def test_norm_of_arrays_that_no_kernel_takes(xp):
    """Views with gaps, and other dtypes."""
    odd = {
        "gaps": xp.asarray(np.arange(24.0).reshape(4, 6))[:, ::2],
        "same": xp.broadcast_to(xp.asarray(np.full(2, 2.0)), (3, 2)),
        "half": xp.asarray(np.full(3, 300, "float16")),
        "whole": xp.asarray(np.array([[3, 4]])),
        "large": xp.asarray(np.full(4, 1e30, "float32")),
    }
    exact = {name: backend.to_numpy(array).astype(float) for name, array in odd.items()}
    for name, array in odd.items():
        assert gradient_norm({name: array}) == pytest.approx(np.linalg.norm(exact[name]), rel=1e-7)
    assert gradient_norm(odd) == pytest.approx(2e30)


def test_large_arrays_give_the_same_on_a_device(xp):
    """More numbers than the sum has threads, many times over, and a rest."""
    rng = np.random.default_rng(0)
    params, grads = ({"p": rng.normal(size=(997, 1201)).astype("float32")} for _ in range(2))
    sent = {"p": backend.asarray(grads["p"], xp)}
    assert gradient_norm(sent) == pytest.approx(gradient_norm(grads), rel=1e-12)
    assert gradient_norm(sent) == gradient_norm(sent)
    there = {"p": backend.asarray(params["p"], xp) + 0}
    SGD(there, 0.1).step(sent)
    SGD(params, 0.1).step(grads)
    np.testing.assert_allclose(backend.to_numpy(there["p"]), params["p"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("xp", ["guard"], indirect=True)
def test_a_device_refuses_wrong_gradients(xp):
    optimiser = SGD({"p": xp.ones((2, 3)), "q": xp.ones(1)}, 0.1)
    with pytest.raises(InputError, match=r"grads: got none for q, expected shape \(1,\)"):
        optimiser.step({"p": xp.ones((2, 3))})
    with pytest.raises(InputError, match=r"grads: got \(3, 2\) for p, expected shape \(2, 3\)"):
        optimiser.step({"p": xp.ones((3, 2))})
    with pytest.raises(TypeError, match="got NumPy and CuPy arrays together"):
        optimiser.step({"p": xp.ones((2, 3)), "q": np.ones(1)})
    assert backend.to_numpy(optimiser.params["p"]).tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize("xp", ["guard"], indirect=True)
@pytest.mark.parametrize("options", [{}, {"up": "bilinear", "norm": "batch"}], ids=str)
def test_launches_of_a_whole_network(xp, options):
    """One for the step, and one and a sum for the norm, with the gradients as they come."""
    net = UNet(base_channels=8, depth=4, backend="cupy", **options)
    side = net.architecture.min_input_size
    logits = net.forward(xp.ones((1, 1, side, side), "float32"), train=True)
    net.backward(xp.ones_like(logits), need_grad_x=False)
    optimiser, numbers = SGD(net.params, 1e-3), xp.zeros(2)

    def cost(call):
        before = Module.launches
        guard.calls.clear()
        call()
        return Module.launches - before, guard.calls.total()

    assert len(net.params) >= 46
    assert cost(lambda: squared_norm(net.grads)) == (math.ceil(len(net.params) / 64), 2)
    launched = cost(lambda: optimiser.step(net.grads, None, numbers, 1e4, 1e3))
    assert launched == (math.ceil(len(net.params) / 64), 0)


def test_velocity_has_the_memory_order_of_the_parameter():
    for name, param in make(0).items():
        assert SGD({name: param}, 0.1).velocity[name].strides == param.strides


def test_gradients_in_another_memory_order_give_the_same():
    results = []
    for contiguous in (False, True):
        params, grads = make(1), make(2)
        if contiguous:
            grads = {name: np.ascontiguousarray(grad) for name, grad in grads.items()}
        SGD(params, 0.1).step(grads)
        results.append(params)
    for name in results[0]:
        np.testing.assert_array_equal(results[0][name], results[1][name])


def test_threads_change_nothing():
    outcome = []
    for threads in (1, 3):
        backend.set_thread_count(threads)
        params, grads = make(3, "float32", big=True), make(4, "float32", big=True)
        SGD(params, 0.1, weight_decay=0.1).step(grads)
        outcome.append((params, gradient_norm(grads)))
    backend.set_thread_count(None)
    assert outcome[0][1] == outcome[1][1]
    for name in outcome[0][0]:
        assert outcome[0][0][name].tobytes() == outcome[1][0][name].tobytes()


def test_float32_stays_float32():
    params = make(5, "float32")
    SGD(params, np.float64(0.1)).step(make(6, "float32"))
    assert {param.dtype for param in params.values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate: got 0, expected a number > 0"),
        ({"learning_rate": math.nan}, "learning_rate: got nan, expected a number > 0"),
        ({"learning_rate": 1, "momentum": 1}, "momentum: got 1, expected 0 <= momentum < 1"),
        ({"learning_rate": 1, "weight_decay": -1}, "weight_decay: got -1, expected a number >= 0"),
    ],
)
def test_sgd_refuses_numbers(arguments, message):
    with pytest.raises(InputError) as caught:
        SGD({}, **arguments)
    assert str(caught.value) == message


def test_sgd_refuses_wrong_arrays():
    optimiser = SGD({"p": np.zeros((2, 3))}, 0.1)
    with pytest.raises(InputError, match=r"grads: got none for p, expected shape \(2, 3\)"):
        optimiser.step({})
    with pytest.raises(InputError, match=r"grads: got \(3, 2\) for p, expected shape \(2, 3\)"):
        optimiser.step({"p": np.zeros((3, 2))})
    with pytest.raises(InputError, match="params: got a strided view for p"):
        SGD({"p": np.zeros((4, 4))[:, ::2]}, 0.1)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50))
@settings(deadline=None)
def test_gradient_norm(values):
    grads = {"a": np.array(values[:1]), "b": np.array([values[1:]])}
    assert gradient_norm(grads) == pytest.approx(np.linalg.norm(values), rel=1e-12, abs=1e-150)


def test_gradient_norm_beyond_float32():
    assert gradient_norm({"g": np.full(4, 1e30, "float32")}) == pytest.approx(2e30)
    assert gradient_norm({"g": np.full(4, 1e-30, "float32")}) == pytest.approx(2e-30)
    assert math.isnan(gradient_norm({"g": np.array([1.0, np.nan])}))
    assert gradient_norm({"g": np.array([1.0, np.inf])}) == math.inf
    assert gradient_norm({}) == 0


@pytest.mark.parametrize(
    ("loss", "norm", "part"),
    [
        (math.nan, 1.0, "loss nan, gradient norm 1, which is not finite"),
        (1.0, math.inf, "loss 1, gradient norm inf, which is not finite"),
        (1.0, 11.0, "loss 1, gradient norm 11, which is above the limit 10"),
        (2e3, 1.0, "loss 2000, gradient norm 1, which is above the limit 1000"),
    ],
)
def test_check_step_says_what_to_try(loss, norm, part):
    with pytest.raises(TrainingError) as caught:
        check_step(12, loss, norm, limit=10, checkpoint="runs/em/checkpoint.safetensors")
    assert str(caught.value) == (
        f"step 12: {part}; try a learning rate 10 times lower, a longer warm-up, or float64; "
        "the last good checkpoint is runs/em/checkpoint.safetensors"
    )


def test_schedules():
    assert [Schedule(1.0, 10)(step) for step in (0, 9)] == [1.0, 1.0]
    steps = Schedule(1.0, 10, "step", every=4, factor=0.5)
    assert [steps(step) for step in (0, 3, 4, 8)] == [1.0, 1.0, 0.5, 0.25]
    assert Schedule(1.0, 10, "cosine")(5) == pytest.approx(0.5)
    assert Schedule(1.0, 10, "poly", power=2)(5) == pytest.approx(0.25)
    assert Schedule(1.0, 10, warmup=4)(1) == pytest.approx(0.5)


@given(st.sampled_from(["constant", "step", "poly", "cosine"]), st.integers(1, 500))
@settings(deadline=None, max_examples=30)
def test_schedules_never_rise_above_the_rate_nor_reach_zero(kind, steps):
    schedule = Schedule(0.3, steps, kind, every=50)
    rates = [schedule(step) for step in range(steps)]
    assert all(0 < rate <= 0.3 for rate in rates)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kind": "cosin"},
            "schedule: got 'cosin', expected one of constant, step, poly, cosine; "
            "nearest valid is 'cosine'",
        ),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0, expected a number > 0"),
        ({"steps": 0}, "steps: got 0, expected an integer >= 1"),
        ({"warmup": -1}, "warmup: got -1, expected an integer >= 0"),
        ({"every": 0}, "every: got 0, expected an integer >= 1"),
        ({"factor": 0}, "factor: got 0, expected 0 < factor <= 1"),
        ({"power": 0}, "power: got 0, expected a number > 0"),
    ],
)
def test_schedule_refuses(arguments, message):
    with pytest.raises(InputError) as caught:
        Schedule(**{"learning_rate": 1.0, "steps": 10, **arguments})
    assert str(caught.value) == message
