"""The proof of what a linear network computes, step by step, and the reason for it in words."""

from fractions import Fraction

from hwcli.rnn import statements
from hwcli.rnn.closed_form import ClosedForm, coefficient
from hwcli.rnn.exact import Exact, shown, simplified
from hwcli.rnn.network import Network
from hwcli.rnn.properties import Offsets, Weighed
from hwcli.rnn.spelling import recurrence, unrolled


def linear_proof(
    network: Network, closed: ClosedForm, known: tuple[Weighed, Exact, Offsets] | None
) -> tuple[str, ...]:
    """Return the steps from the recurrence to the sentence; all hold for all real inputs.

    Args:
        network: a linear one.
        closed: its closed form.
        known: Q, s and c where z_T = s Q + c for a quantity Q with a name, c by the parity of T.
    """
    steps = _by_induction(network, closed) or _by_equal_recurrences(network)
    steps = (*steps, _sum_of_z(closed))
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
    base = w if w.isdigit() else f"({w})"
    return (
        f"At each step the recurrent weight {w} multiplies all earlier inputs by {w}. So the input "
        f"of k steps ago counts {base}^k times as much as the last one."
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


def _by_equal_recurrences(network: Network) -> tuple[str, ...]:
    feedback = " (y fed back counts as one more hidden unit)" if network.has_feedback else ""
    return (
        "The network is linear: unrolled, z_T is a weighted sum of the inputs plus what depends on "
        f"T alone, and the weight of x_{{T-k}} is w_out · w_rec^k · w_in{feedback}.",
        "By Cayley and Hamilton these weights obey a linear recurrence of an order that is at "
        "most the number of hidden units, and what depends on T alone obeys one of at most one "
        "order more. The stated formula obeys the same recurrences and has the same first terms, "
        "so both are equal for every T.",
    )


def _sum_of_z(closed: ClosedForm) -> str:
    """State z_T, also for even and for odd T where more than the sign of the whole differs."""
    z = closed.preactivation
    said = f"So z_T = {z.text()}."
    if z.differs_by_parity:
        said += f" For even T, z_T = {z.text('even')}. For odd T, z_T = {z.text('odd')}."
    return said


def _in_words(
    network: Network, closed: ClosedForm, name: Weighed, scale: Exact, offsets: Offsets
) -> tuple[str, ...]:
    """Lead from the formula of z_T to the quantity that the sentence names, and to its sign."""
    even, odd = (statements.affine(name.value, scale, offset) for offset in offsets)
    meaning = f"That is {even}."
    if even != odd:
        meaning = f"For even T, that is {even}. For odd T, that is {odd}."
    if network.output_activation in statements.SHOW_VALUES:
        return (meaning,)
    held = name.split is not None and _holds(closed, name.split[0])
    if name.split:
        meaning = name.split[1].format("h_T" if held else name.split[0])
    if any(offsets):
        return (meaning, _bounds(name, scale, offsets))
    if not name.split:
        return (_sign(meaning.removesuffix("."), name.value, scale),)
    if held:
        w = "" if scale == 1 else "-" if scale == -1 else f"{shown(scale)}·"
        return (meaning, _sign(f"z_T = {w}h_T", "h_T", scale))
    return (meaning, _sign(f"z_T is {shown(scale)} times this sum", "this sum", scale))


def _holds(closed: ClosedForm, formula: str) -> bool:
    """Tell whether the only hidden unit holds what a formula says."""
    return len(closed.hidden) == 1 and closed.hidden[0].text() == formula


def _sign(product: str, what: str, scale: Exact) -> str:
    """Say which sign z_T has where it is a multiple of something."""
    if abs(scale) != 1:
        product += f", and {shown(scale)} is {'positive' if scale > 0 else 'negative'}"
    if scale > 0:
        return f"{product}. So z_T has the sign of {what}."
    return (
        f"{product}. So z_T is positive where {what} is negative, and negative where {what} is "
        "positive."
    )


def _bounds(name: Weighed, scale: Exact, offsets: Offsets) -> str:
    """Say for which quantities z_T is positive and negative where something is added to it."""

    def compared(*, is_odd: bool) -> str:
        bound = simplified(Fraction(-offsets[is_odd]) / scale)
        above, below, _ = name.cases(bound, is_odd=is_odd)
        high, low = ("> 0", "< 0") if scale > 0 else ("< 0", "> 0")
        return f"z_T {high} exactly when {above}, and z_T {low} exactly when {below}."

    even, odd = compared(is_odd=False), compared(is_odd=True)
    return f"So {even}" if even == odd else f"So for even T, {even} For odd T, {odd}"


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
