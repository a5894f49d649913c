import itertools
import random
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwcli.config import build
from hwcli.rnn.cells import Stack
from hwcli.rnn.closed_form import closed_form
from hwcli.rnn.gradients import gradients, linear_gradients
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.tape import stack_gradients
from hwcli.rnn.trace import trace


def network(**spec: Any) -> Network:
    return NetworkSpec.model_validate(spec).network()


HOMEWORK = network(w_in=1, w_rec=-1, w_out=1000)


def letters(*numbers: int) -> list[Letter]:
    return [(number,) for number in numbers]


def test_the_homework_network_by_hand() -> None:
    traced = trace(HOMEWORK, letters(3, -1, 4))
    assert [step.hidden for step in traced.head] == [(3,), (-4,), (8,)]
    assert [step.preactivation for step in traced.head] == [3000, -4000, 8000]
    assert [step.output for step in traced.head] == [1.0, 0.0, 1.0]


def test_a_tie_gives_exactly_one_half_and_nothing_overflows() -> None:
    assert trace(HOMEWORK, letters(5, 5)).final.output == 0.5
    assert trace(HOMEWORK, letters(-1000)).final.output == 0.0
    assert trace(HOMEWORK, letters(1000)).final.output == 1.0


def test_integers_stay_exact_whatever_their_size() -> None:
    binary = network(w_in=1, w_rec=2, w_out=1, output_activation="identity")
    bits = [random.Random(0).randint(0, 1) for _ in range(5003)]
    expected = int("".join(map(str, bits)), 2)
    assert trace(binary, letters(*bits)).final.output == expected


def test_rationals_are_exact_where_the_denominators_grow() -> None:
    average = network(w_in="1/10", w_rec="9/10", w_out=1, output_activation="identity")
    xs = [random.Random(1).randint(-9, 9) for _ in range(2011)]
    h = Fraction(0)
    for x in xs:
        h = Fraction(9, 10) * h + Fraction(1, 10) * x
    assert trace(average, letters(*xs)).final.hidden == (h,)


def test_a_million_steps_take_seconds_and_are_exact() -> None:
    xs = random.Random(2).choices(letters(*range(-9, 10)), k=1_000_001)
    last = sum(x for (x,) in xs[::-2]) - sum(x for (x,) in xs[-2::-2])
    assert trace(HOMEWORK, xs).final.hidden == (last,)


@st.composite
def linear_networks(draw: st.DrawFn) -> Network:
    H, D = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    number = st.one_of(st.integers(-3, 3), st.fractions(-2, 2, max_denominator=5))

    def vector(n: int) -> Any:
        return st.lists(number, min_size=n, max_size=n)

    fed_back = draw(vector(H))
    return network(
        w_in=draw(st.lists(vector(D), min_size=H, max_size=H)),
        w_rec=draw(st.lists(vector(H), min_size=H, max_size=H)),
        w_out=draw(vector(H)),
        bias=draw(vector(H)),
        w_feedback=fed_back,
        initial_state=draw(vector(H)),
        output_bias=draw(number),
        initial_output=draw(number) if any(fed_back) else 0,
        output_activation="identity",
    )


@settings(max_examples=60, deadline=None)
@given(linear_networks(), st.integers(1, 17), st.randoms(use_true_random=False))
def test_the_closed_form_equals_the_trace(net: Network, T: int, generator: random.Random) -> None:
    xs = [tuple(generator.randint(-5, 5) for _ in range(net.num_inputs)) for _ in range(T)]
    closed = closed_form(net)
    assert closed is not None
    final = trace(net, xs).final
    assert tuple(unit.value(xs) for unit in closed.hidden) == final.hidden
    assert closed.preactivation.value(xs) == final.preactivation


@settings(max_examples=30, deadline=None)
@given(linear_networks())
def test_the_gradients_of_a_linear_network_are_its_coefficients(net: Network) -> None:
    traced = trace(net, [(1,) * net.num_inputs] * 5)
    closed = closed_form(net)
    assert closed is not None
    assert gradients(net, traced.tail) == linear_gradients(net, closed, traced.final, 5)


@settings(max_examples=30, deadline=None)
@given(linear_networks())
def test_formulas_give_the_terms_of_the_recurrence(net: Network) -> None:
    closed = closed_form(net)
    assert closed is not None
    for response, formula in zip(
        closed.preactivation.responses, closed.preactivation.formulas, strict=True
    ):
        if formula is not None:
            assert [formula.term(k) for k in range(9)] == response.terms(9)


def test_the_closed_form_of_an_oscillation_has_no_formula_and_is_still_exact() -> None:
    fibonacci = network(
        w_in=[[1], [0]], w_rec=[[1, 1], [1, 0]], w_out=[1, 0], output_activation="identity"
    )
    closed = closed_form(fibonacci)
    assert closed is not None
    assert closed.preactivation.formulas == (None,)
    assert closed.preactivation.responses[0].terms(8) == [1, 1, 2, 3, 5, 8, 13, 21]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_trace_equals_torch(activation: str) -> None:
    T, D, H = 13, 2, 3
    generator = random.Random(3)

    def matrix(rows: int, columns: int) -> list[list[Fraction]]:
        return [
            [Fraction(generator.randint(-8, 8), 8) for _ in range(columns)] for _ in range(rows)
        ]

    w_in, w_rec, (bias,) = matrix(H, D), matrix(H, H), matrix(1, H)
    net = network(w_in=w_in, w_rec=w_rec, w_out=[1] * H, bias=bias, activation=activation)
    torch_net = nn.RNN(D, H, nonlinearity=activation, dtype=torch.float64)
    with torch.no_grad():
        for parameter, values in (
            (torch_net.weight_ih_l0, w_in),
            (torch_net.weight_hh_l0, w_rec),
            (torch_net.bias_ih_l0, bias),
            (torch_net.bias_hh_l0, [Fraction(0)] * H),
        ):
            numbers = [list(map(float, v)) if isinstance(v, list) else float(v) for v in values]
            parameter.copy_(torch.tensor(numbers, dtype=torch.float64))
    xs = [tuple(generator.randint(-2, 2) for _ in range(D)) for _ in range(T)]
    inputs = torch.tensor(xs, dtype=torch.float64, requires_grad=True)
    states, _ = torch_net(inputs)
    traced = trace(net, xs)
    ours = torch.tensor([list(map(float, step.hidden)) for step in traced.head])
    torch.testing.assert_close(ours.double(), states.detach(), rtol=1e-6, atol=1e-6)

    found = gradients(net, traced.tail)
    for unit in range(H):
        (expected,) = torch.autograd.grad(states[-1, unit], inputs, retain_graph=True)
        backwards = [[float(g) for g in rows[unit]] for rows in found.hidden]
        torch.testing.assert_close(
            torch.tensor(backwards, dtype=torch.float64), expected, rtol=1e-9, atol=1e-12
        )


def test_gradients_through_output_feedback_are_those_of_finite_differences() -> None:
    net = network(
        w_in=1, w_rec="1/2", w_out="3/4", w_feedback="-1/3", activation="tanh", bias="1/8"
    )
    xs = [Fraction(n, 4) for n in (1, -2, 3, 1, 2)]

    def last(values: list[Fraction]) -> float:
        return float(trace(net, [(v,) for v in values]).final.preactivation)

    found = gradients(net, trace(net, [(x,) for x in xs]).tail)
    step = Fraction(1, 2**20)
    for t, (gradient,) in enumerate(found.preactivation):
        up, down = ([x + sign * step * (i == t) for i, x in enumerate(xs)] for sign in (1, -1))
        assert float(gradient) == pytest.approx((last(up) - last(down)) / float(2 * step), rel=1e-5)


def test_feedback_of_a_linear_output_is_one_more_unit() -> None:
    net = network(
        w_in=2, w_rec=-1, w_out=3, w_feedback="1/2", output_bias=1, initial_output=4,
        output_activation="identity",
    )  # fmt: skip
    plain = net.without_feedback()
    for xs in itertools.product(letters(-1, 0, 2), repeat=3):
        assert trace(net, xs).final.output == trace(plain, xs).final.output


def test_specs_read_decimals_exactly() -> None:
    spec = build(NetworkSpec, {"w_in": 0.1, "w_rec": "1/3", "w_out": "1e3"})  # type: ignore[type-var]
    assert (spec.w_in, spec.w_rec, spec.w_out) == (
        ((Fraction(1, 10),),),
        ((Fraction(1, 3),),),
        1000,
    )


@pytest.mark.parametrize("w_out", [1, "1e90"])
def test_a_gradient_that_explodes_beyond_float64_is_still_a_number(w_out: Any) -> None:
    # At h = 0 tanh has the slope 1: dh_T/dx_t is 3^(T - t), and dz_T/dx_t w_out times that.
    net = network(w_in=1, w_rec=3, w_out=w_out, activation="tanh")
    T = 1500
    found = gradients(net, trace(net, [(0,)] * T).head)
    assert [g for ((g,),) in found.hidden[-3:]] == [9, 3, 1]
    ((first,),) = found.hidden[0]
    (through_output,) = found.preactivation[0]
    power = Fraction(3) ** (T - 1)
    assert float(Fraction(first) / power) == pytest.approx(1, rel=1e-12)
    assert float(Fraction(through_output) / power) == pytest.approx(float(w_out), rel=1e-12)
    # With the output fed back the factor is 3 + 2 at each step.
    fed = network(w_in=1, w_rec=3, w_out=1, w_feedback=2, activation="tanh",
                  output_activation="identity")  # fmt: skip
    ((first,),) = gradients(fed, trace(fed, [(0,)] * T).head).hidden[0]
    assert float(Fraction(first) / 5 ** (T - 1)) == pytest.approx(1, rel=1e-12)


def test_a_tape_holds_what_float64_cannot() -> None:
    spec = {"layers": {"w_in": 1, "w_rec": 10**4, "activation": "tanh"}, "w_out": 1}
    (stack,) = NetworkSpec.model_validate(spec).networks()
    assert isinstance(stack, Stack)
    steps = trace(stack, [(0,)] * 120).head
    found = stack_gradients(stack, steps, stack.initial_state)
    assert found is not None
    assert float(Fraction(found.hidden[0][0][0]) / 10 ** (4 * 119)) == pytest.approx(1, rel=1e-12)
