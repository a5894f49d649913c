"""The proof of what a linear network computes, step by step, and the reason for it in words."""

from fractions import Fraction

from hwcli.rnn import statements
from hwcli.rnn.closed_form import ClosedForm, coefficient
from hwcli.rnn.exact import Exact, shown, simplified
from hwcli.rnn.network import Network
from hwcli.rnn.properties import Weighed
from hwcli.rnn.spelling import recurrence, unrolled


def linear_proof(
    network: Network, closed: ClosedForm, known: tuple[Weighed, Exact, Exact] | None
) -> tuple[str, ...]:
    """Return the steps from the recurrence to the sentence; all hold for all real inputs.

    Args:
        network: a linear one.
        closed: its closed form.
        known: Q, s and c where z_T = s Q + c for a quantity Q with a name.
    """
    steps = _by_induction(network, closed) or _by_equal_recurrences()
    steps = (*steps, f"So z_T = {closed.preactivation.text()}.")
    if known is not None:
        steps = (*steps, *_in_words(network, closed, *known))
    return (*steps, _reading(network))


def reason(network: Network) -> str | None:
    """Say what the recurrent weight does to the inputs; None for more than one linear unit."""
    if network.num_hidden > 1 or network.has_feedback:
        return None
    ((weight,),) = network.w_rec
    if weight == 0:
        return (
            "The recurrent weight 0 lets nothing of the past through: only the last input counts."
        )
    if weight == 1:
        return (
            "The recurrent weight 1 keeps what the hidden unit holds: each step adds its input to "
            "what came before."
        )
    if weight == -1:
        return (
            "At each step the recurrent weight -1 changes the sign of all earlier inputs. So the "
            "inputs 0, 2, 4, ... steps ago count with one sign, and those 1, 3, 5, ... steps ago "
            "with the other."
        )
    w = shown(weight)
    return (
        f"At each step the recurrent weight {w} multiplies all earlier inputs by {w}. So the input "
        f"of k steps ago counts ({w})^k times as much as the last one."
    )


def _by_induction(network: Network, closed: ClosedForm) -> tuple[str, ...]:
    """Prove the closed form of a scalar network without bias that starts at 0; empty for others."""
    scalar = network.num_hidden == network.num_inputs == 1 and not network.has_feedback
    if not scalar or network.bias[0] or network.initial_state[0]:
        return ()
    (weighted,), (into,), rec = closed.hidden, network.w_in[0], network.w_rec[0][0]
    if not into or weighted.formulas[0] is None:
        return ()
    step = recurrence(network, 0, "T")
    if rec == 0:
        return (f"The recurrence is {step}: no earlier state enters.",)
    first = unrolled(closed, 0, 1)
    before, after = (coefficient(into, rec, exponent) for exponent in ("T - 1 - t", "T - t"))
    multiplied = f"is {shown(rec)}·{before} = {after}" if rec != 1 else f"stays {after}"
    last = coefficient(into, 1, "")
    return (
        f"Claim: h_T = {weighted.text()}. For T = 1 the claim says h_1 = {first}; the recurrence "
        f"gives {recurrence(network, 0, 1)} = {first}, because h_0 = 0.",
        f"Suppose the claim holds for T - 1: the coefficient of x_t in h_{{T-1}} is {before}. By "
        f"{step}, its coefficient in h_T {multiplied}, and that of x_T is {last}. So the claim "
        "holds for T.",
    )


def _by_equal_recurrences() -> tuple[str, ...]:
    return (
        "The network is linear: unrolled, z_T is a weighted sum of the inputs plus what depends on "
        "T alone, and the weight of x_(T-k) is w_out · w_rec^k · w_in.",
        "By Cayley and Hamilton these weights obey a linear recurrence of an order that is at "
        "most the number of hidden units. The stated formula obeys the same recurrence and has "
        "the same first terms, so both are equal for every T.",
    )


def _in_words(
    network: Network, closed: ClosedForm, name: Weighed, scale: Exact, offset: Exact
) -> tuple[str, ...]:
    """Lead from the formula of z_T to the quantity that the sentence names."""
    compares = network.output_activation not in statements.SHOW_VALUES
    if compares and offset == 0 and name.split:
        held = len(closed.hidden) == 1 and closed.hidden[0].text() == name.split[0]
        return (name.split[1].format("h_T" if held else name.split[0]),)
    meaning = f"That is {statements.affine(name.value, scale, offset)}."
    if not compares or offset == 0:
        return (meaning,)
    bound = simplified(Fraction(-offset) / scale)
    side = "greater" if scale > 0 else "less"
    return (meaning, f"So z_T > 0 exactly when {name.value} is {side} than {shown(bound)}.")


def _reading(network: Network) -> str:
    """Say how the output unit reads z_T."""
    activation = network.output_activation
    if activation == "identity":
        return "The output is linear: y_T = z_T."
    if activation == "relu":
        return "The output is y_T = max(0, z_T)."
    high, low, tie = statements.CLASSES[activation]
    if activation in ("logistic", "tanh"):
        return (
            f"y_T = {activation}(z_T) is above {tie} where z_T > 0, below {tie} where z_T < 0, "
            f"and {tie} where z_T = 0."
        )
    return f"y_T is {high} where z_T > 0, {low} where z_T < 0, and {tie} where z_T = 0."
