import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwcli import cli
from hwcli.rnn.summary import TraceSummary
from hwcli.yaml_files import read_yaml


def hw2(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hw2", "rnn-trace", *arguments])
    with pytest.raises(SystemExit) as exit_:
        sys.exit(cli.main())
    return int(exit_.value.code or 0)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def summary(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(Path(capsys.readouterr().out.splitlines()[-1]).read_text())


def test_the_default_run_answers_the_homework(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hw2(monkeypatch) == 0
    found = summary(capsys)
    assert (found["command"], found["name"], found["status"]) == (
        "rnn-trace",
        "alternating-sum",
        "complete",
    )
    assert found["property"]["id"] == "alternating-sum"
    assert (found["proof"]["proved"], found["proof"]["kind"]) == (True, "closed-form")
    coefficients = found["closed_form"]["coefficients"]
    assert coefficients == [(-1) ** (1000 - t) for t in range(1, 1001)]
    assert found["gradients"]["hidden"] == coefficients
    assert found["gradients"]["output_largest"] == 0.0
    assert found["checks"]["num_failed"] == 0
    folder = there / "results/rnn-trace/alternating-sum"
    for name in ("config.yaml", "env.json", "table.csv", "table.md", "trace.png"):
        assert (folder / name).stat().st_size > 0


def test_inputs_are_read_exactly_and_rationals_written_as_text(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hw2(monkeypatch, "--w-in", "0.1", "--w-rec", "1", "--inputs", "1,2,-0.5") == 0
    found = summary(capsys)
    assert found["name"] == "custom"
    assert found["final"]["hidden"] == ["1/4"]
    assert found["closed_form"]["coefficients"] == ["1/10"] * 3
    assert found["property"]["id"] == "running-sum"


def test_a_spec_file_with_the_weights_of_a_preset_gets_the_same_answer(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hw2(monkeypatch, "--preset", "binary-addition", "--length", "17") == 0
    preset = summary(capsys)
    config = read_yaml(there / "results/rnn-trace/binary-addition/config.yaml")
    Path("adder.yaml").write_text(json.dumps(config["network"]))
    Path("streams.txt").write_text("1 0\n0 1\n1 1\n")
    arguments = ["--spec", "adder.yaml", "--alphabet", "0,1", "--inputs-file", "streams.txt"]
    assert hw2(monkeypatch, *arguments) == 0
    found = summary(capsys)
    assert found["name"] == "adder"
    assert found["property"] == preset["property"]
    assert found["final"]["output"] == 0  # 5 + 6 is 1011 in binary, third digit from the right 0
    assert (there / "results/rnn-trace/adder/machine.png").exists()


def test_inputs_that_leave_the_alphabet_are_claimed_for_too(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hw2(monkeypatch, "--preset", "count-ones", "--inputs", "1,0,5") == 0
    found = summary(capsys)["property"]
    assert (found["id"], found["statement"]) == ("running-sum", "y_T is the sum of all inputs.")


def test_a_long_sequence_is_summarised_by_its_end(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hw2(monkeypatch, "--w-rec", "2", "--alphabet", "0,1", "--length", "30011") == 0
    found = summary(capsys)
    assert found["property"]["id"] == "binary-number"
    assert found["final"]["hidden"][0].startswith("≈")
    assert len(found["closed_form"]["coefficients"]) == 2000


def test_one_file_is_one_exercise(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("exercise.yaml").write_text(
        "W_xh: 1\nW_hh: 0\nW_hy: 2\nactivation: sigmoid\noutput_activation: linear\n"
        "inputs: [1, 1]\nalphabet: 0,1\ntargets: [null, 1]\nsteps: 2\n"
    )
    assert hw2(monkeypatch, "--spec", "exercise.yaml", "--name", "mine") == 0
    found = summary(capsys)
    assert (found["name"], found["length"]) == ("mine", 2)
    y = 2 / (1 + 2.718281828459045**-1)
    assert found["final"]["output"] == pytest.approx(y)
    assert found["loss"]["total"] == pytest.approx((y - 1) ** 2 / 2)
    assert found["loss"]["errors"][0] is None


@pytest.mark.parametrize(
    ("wanted", "code"), [("parity", 0), ("0*(10*10*)*10*", 0), ("last-input", 1), ("even.yaml", 1)]
)
def test_a_network_is_compared_with_what_is_expected(
    wanted: str,
    code: int,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("even.yaml").write_text(
        "start: even\nstates:\n"
        "  even: {output: 1, next: {0: even, 1: odd}}\n"
        "  odd: {output: 0, next: {0: odd, 1: even}}\n"
    )
    assert hw2(monkeypatch, "--preset", "parity", "--length", "5", "--expect", wanted) == code
    found = summary(capsys)["expectation"]
    assert (found["passed"], found["proved"]) == (code == 0, True)
    assert found["counterexample"] == {
        "last-input": [[1], [0]],  # after 1, 0 the parity is odd and the last input 0
        "even.yaml": [[0]],
    }.get(wanted)


@pytest.mark.parametrize(
    "wanted", ["parity", "count-mod-3", ".*101.*", "first-equals-last", ".*(11|00)"]
)
def test_designed_weights_compute_the_property_and_are_proved(
    wanted: str,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hw2(monkeypatch, "--design", wanted, "--length", "7") == 0
    found = summary(capsys)
    assert found["expectation"]["passed"]
    assert found["proof"]["kind"] == "state-machine"
    # The printed file is an exercise of its own, and passes by itself.
    spec = there / "results/rnn-trace/design/spec.yaml"
    assert hw2(monkeypatch, "--spec", str(spec), "--expect", wanted, "--length", "7") == 0
    weights = read_yaml(spec)
    # Over bits every weight is -1, 0 or 1, as exams ask; only biases are halves.
    rows = [*weights["w_in"], *weights["w_rec"]]
    assert {abs(w) for row in rows for w in row} <= {0, 1}
    # The outputs themselves may be larger.
    assert max(map(abs, weights["w_out"])) <= (2 if wanted == "count-mod-3" else 1)


def test_the_network_is_drawn_up_to_four_units(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = there / "results/rnn-trace"
    assert hw2(monkeypatch, "--preset", "binary-addition", "--length", "5") == 0
    assert (folder / "binary-addition/network.png").exists()
    assert hw2(monkeypatch, "--design", ".*1.0.1", "--length", "5") == 0
    assert not (folder / "design/network.png").exists()


def test_relu_states_of_too_many_digits_are_rounded_and_say_so(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    relu = ["--set", "network.activation=relu", "--w-rec", "1/2", "--length", "250000"]
    assert hw2(monkeypatch, *relu) == 0
    found = summary(capsys)
    assert found["arithmetic"] == "float64"
    assert any("binary digits" in remark for remark in found["proof"]["remarks"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--preset", "xor"], "preset = 'xor': unknown; choices: alternating-sum, running-sum"),
        (["--w-in", "two"], "network.w_in = 'two': 'two' is not a number such as 3, -0.5 or 1/3"),
        (["--spec", "twice.yaml"], "twice.yaml: w_in belongs under network:"),
        (["--spec", "both.yaml"], "network.w_in is given twice, once as W_xh"),
        (["--spec", "bare.yaml", "--preset", "parity"], "give either --spec or --preset, not both"),
        (["--spec", "length.yaml"], "unknown key 'network.lenght': choices: w_in, w_rec"),
        (["--w-out", "1e400", "--set", "network.activation=tanh"], "network.w_out has a weight"),
        (["--expect", "11("], "'11(' is no property: a bracket is not closed"),
        (["--design", "1*", "--expect", "parity"], "--design and --expect: a design has weights"),
        (["--design", "running-sum"], "design = 'running-sum' compares sums, for which no weights"),
        (
            ["--design", "parity", "--spec", "bare.yaml"],
            "--design and --spec: a design has weights",
        ),
        (
            ["--design", "parity", "--preset", "majority"],
            "design = 'parity' has weights of its own",
        ),
        (
            ["--set", "network.activation=softmax"],
            "network.activation = 'softmax': it compares several outputs: write it as output_activ",
        ),
        (["--set", "network.threshold=[[2]]"], "network.threshold = [[2]]: write a number, or one"),
        (["--set", "network.output_threshold=[[2]]"], "network.output_threshold = [[2]]: write a "),
        (["--expect", "difference-of-sums"], "difference-of-sums is about 2 inputs per step: the"),
        (
            ["--preset", "difference-of-sums", "--expect", "running-sum"],
            "running-sum is about 1 input per step: the network reads 2",
        ),
        (["--expect", "parity"], "parity is about bits: give alphabet = 0,1 and inputs of 0 and 1"),
        (
            ["--preset", "parity", "--expect", "(1{50}){30}"],
            "'(1{50}){30}' is too long, or nested too deeply",
        ),
        (["--expect", "runing-sum"], "'runing-sum' is no property: 'r' is no letter;"),
        (["--preset", "parity", "--inputs", "1011"], "inputs: 1011 is one step, and is not in the"),
        (
            ["--preset", "parity", "--inputs-file", "joined.txt"],
            "inputs_file = joined.txt: 1011 is one step, and is not in the alphabet: write 1,0,1,1,"
            " or give an alphabet that has it",
        ),
        (
            ["--inputs", "1e400", "--set", "network.activation=tanh"],
            "inputs: step 1 has a number beyond 1e+100; tanh units are computed in float64",
        ),
        (
            ["--alphabet", "0,1e400", "--set", "network.activation=tanh"],
            "alphabet: step 2 has a number beyond 1e+100; tanh units are computed in float64",
        ),
        (
            ["--inputs", "1,2", "--set", "targets=0,2", "--set", "loss=cross-entropy"],
            "loss = cross-entropy: the target 2 is not in 0 to 1",
        ),
        (
            ["--spec", "labels.yaml"],
            "loss = cross-entropy needs a logistic output, and this network's output is identity",
        ),
        (
            ["--spec", "sigmoid.yaml"],
            "network.output_activation = 'sigmoid' has no effect without network.w_out",
        ),
        (
            ["--spec", "threshold.yaml"],
            "network.output_activation = 'sigmoid' has no effect beside network.output_threshold: "
            "leave it out, or write step-ge",
        ),
        (
            ["--spec", "hidden.yaml"],
            "network.activation = 'linear' has no effect beside network.threshold: leave it out",
        ),
        (
            ["--spec", "layers.yaml"],
            "network.w_rec = -1 has no effect beside network.layers: write it in a layer",
        ),
        (
            ["--w-rec", "2", "--set", "network.layers={w_in: 1, w_rec: 2}"],
            "network.w_rec has no effect beside network.layers: write it in a layer",
        ),
        (
            ["--w-rec", "3", "--set", "network.w_feedback=1"],
            "network: the hidden state leaves float64's range by step ",
        ),
        (["--inputs", "1,x"], "inputs = '1,x': step 2: 'x' is not a number"),
        (["--inputs", ""], "--inputs needs a value, and got an empty one"),
        (["--inputs", "1 2, 3"], "inputs: step 1 has 2 numbers: the network reads 1"),
        (["--preset", "equality", "--inputs", "1"], "inputs: step 1 has 1 number:"),
        (["--inputs-file", "absent.txt"], "inputs_file = absent.txt: No such file"),
        (["--inputs-file", "words.txt"], "inputs_file = words.txt: step 2: 'b' is not a number"),
        (["--spec", "absent.yaml"], "absent.yaml: no such file"),
        (["--spec", "uneven.yaml"], "network.w_rec is 2 x 1/2: expected 2 x 2"),
        (["--spec", "short.yaml"], "network.w_out has 1 number: expected 2"),
        (["--spec", "typo.yaml"], "unknown key 'network.w_rek': did you mean 'w_rec'?"),
        (["--spec", "unit.yaml"], "network.activation = 'gelu': Input should be 'identity',"),
        (["--length", "0"], "length = '0': "),
        (["--alphabet", ""], "--alphabet needs a value, and got an empty one"),
        (["--alphabet", "1..99999"], "alphabet = '1..99999': more than 10,000 values"),
    ],
)
def test_a_mistake_is_one_line(
    there: Path,
    refused: Callable[[list[str], str], None],
    arguments: list[str],
    line: str,
) -> None:
    Path("words.txt").write_text("1\nb\n")
    Path("joined.txt").write_text("1011\n")
    Path("labels.yaml").write_text(
        "w_in: 1\nw_rec: 1\ninputs: 1,1\ntargets: 0,1\nloss: cross-entropy\n"
    )
    Path("sigmoid.yaml").write_text("w_in: 1\nw_rec: 1\noutput_activation: sigmoid\n")
    unit = "w_in: 1\nw_rec: 1\nw_out: 1\n"
    Path("threshold.yaml").write_text(unit + "output_activation: sigmoid\noutput_threshold: 1\n")
    Path("hidden.yaml").write_text(unit + "activation: linear\nthreshold: 1\n")
    Path("layers.yaml").write_text("w_rec: -1\nw_out: 1\nlayers: {w_in: 1, w_rec: 2}\n")
    rest = "w_out: [1, 1]\n"
    Path("uneven.yaml").write_text("w_in: [[1], [1]]\nw_rec: [[1, 2], [1]]\n" + rest)
    Path("short.yaml").write_text("w_in: [[1], [1]]\nw_rec: [[1, 2], [1, 1]]\nw_out: [1]\n")
    Path("typo.yaml").write_text("w_in: 1\nw_rek: 1\nw_rec: 1\nw_out: 1\n")
    Path("unit.yaml").write_text("w_in: 1\nw_rec: 1\nw_out: 1\nactivation: gelu\n")
    Path("bare.yaml").write_text("w_in: 1\nw_rec: 1\nw_out: 1\n")
    Path("twice.yaml").write_text("w_in: 1\nnetwork: {w_rec: 1}\n")
    Path("both.yaml").write_text("w_in: 1\nW_xh: 1\nw_rec: 1\n")
    Path("length.yaml").write_text("w_in: 1\nw_rec: 1\nlenght: 5\n")
    refused(["rnn-trace", *arguments], line)


def test_every_output_is_judged(hw2: Callable[..., int], there: Path) -> None:
    # h[1] is the last input, h[2] the one before it.
    Path("delay.yaml").write_text(
        "w_in: [[1], [0]]\nw_rec: [[0, 0], [1, 0]]\nalphabet: 0,1\ninputs: 1,0\n"
    )
    assert hw2("rnn-trace", "--spec", "delay.yaml", "--expect", "last-input") == 1
    found = json.loads((there / "results/rnn-trace/delay/summary.json").read_text())
    assert found["expectation"]["passed"]
    assert [each["passed"] for each in found["more_expectations"]] == [False]
    # After 1 the last input is 1, and the second unit still 0.
    assert found["more_expectations"][0]["counterexample"] == [[1]]
    lines = (there / "results/rnn-trace/delay/table.md").read_text().splitlines()
    assert any(line.startswith("Output 1: Expected last-input (the last") for line in lines)
    assert any(line.startswith("Output 2: Expected last-input (the last") for line in lines)
    assert "What follows is said of output 1." in lines


def test_the_whole_trace_is_in_a_file_and_no_step_twice(
    hw2: Callable[..., int], there: Path
) -> None:
    folder = there / "results/rnn-trace/custom"
    assert hw2("rnn-trace", "--w-rec", "-1", "--inputs", "3,-1,4") == 0
    # h_2 = -3 - 1, h_3 = 4 + 4; z_t = 1000 h_t.
    assert (folder / "trace.csv").read_text().splitlines() == [
        "t,x,h,z,y",
        "1,3,3,3000,1.0",
        "2,-1,-4,-4000,0.0",
        "3,4,8,8000,1.0",
    ]
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step["t"] for step in steps] == [1, 2, 3]
    assert hw2("rnn-trace", "--w-rec", "-1", "--length", "9", "--steps", "2", "--replace") == 0
    assert len((folder / "trace.csv").read_text().splitlines()) == 1 + 9
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step["t"] for step in steps] == [1, 2, 9]


def test_a_run_that_replaces_a_design_leaves_no_weights_of_it(
    hw2: Callable[..., int], there: Path
) -> None:
    folder = there / "results/rnn-trace/mine"
    assert hw2("rnn-trace", "--design", "parity", "--length", "5", "--name", "mine") == 0
    assert (folder / "spec.yaml").exists()
    # Its own config says both that it was designed and what came of it.
    again = ["--config", str(folder / "config.yaml"), "--name", "again"]
    assert hw2("rnn-trace", *again) == 0
    assert hw2("rnn-trace", "--preset", "parity", "--name", "mine", "--replace") == 0
    assert not (folder / "spec.yaml").exists()


def test_named_letters_may_stand_in_a_file_and_any_file_name_names_the_run(
    hw2: Callable[..., int], there: Path
) -> None:
    Path("exercise 1.yaml").write_text(
        "w_in: [[1, 0]]\nw_rec: 1\nletters: {a: [1, 0], b: [0, 1]}\ninputs_file: word.txt\n"
    )
    Path("word.txt").write_text("a\nb\na\n")
    assert hw2("rnn-trace", "--spec", "exercise 1.yaml") == 0
    found = json.loads((there / "results/rnn-trace/exercise-1/summary.json").read_text())
    assert found["name"] == "exercise-1"
    assert found["final"]["output"] == 2  # two a's


def test_bits_may_have_names(hw2: Callable[..., int], there: Path) -> None:
    arguments = ["--design", ".*bb", "--set", "letters={a: 0, b: 1}", "--length", "5"]
    assert hw2("rnn-trace", *arguments) == 0
    Path("exercise.yaml").write_text(
        "w_in: 1\nw_rec: 1\nbias: -1/2\nw_out: 1\nactivation: step\noutput_activation: linear\n"
        "letters: {a: 0, b: 1}\ninputs: abba\n"
    )
    assert hw2("rnn-trace", "--spec", "exercise.yaml", "--expect", "[ab]*b[ab]*") == 0
    found = json.loads((there / "results/rnn-trace/exercise/summary.json").read_text())
    assert (found["property"]["id"], found["final"]["output"]) == ("latch", 1)


def test_layers_may_be_set_and_their_configs_and_summaries_are_read_again(
    hw2: Callable[..., int], there: Path
) -> None:
    folder = there / "results/rnn-trace"
    layers = ["--set", "network.layers={w_in: 1, w_rec: 2}", "--inputs", "1,1"]
    assert hw2("rnn-trace", *layers, "--name", "layered") == 0
    summary = json.loads((folder / "layered/summary.json").read_text())
    assert summary["final"]["hidden"] == [3]  # 2 · 1 + 1
    # Runs before this one kept the shipped weights beside the layers.
    config = read_yaml(folder / "layered/config.yaml")
    kept = {"w_in": [[1]], "w_rec": [[-1]]}
    config["network"] |= kept
    Path("older.yaml").write_text(json.dumps(config))
    for flag in ("--config", "--spec"):
        assert hw2("rnn-trace", flag, "older.yaml", "--name", "again", "--replace") == 0
        again = json.loads((folder / "again/summary.json").read_text())
        assert again["final"] == summary["final"]
    summary["network"]["spec"] |= kept
    assert TraceSummary.model_validate(summary).network.spec.w_rec is None


def test_a_runs_own_config_is_an_exercise_too(hw2: Callable[..., int], there: Path) -> None:
    # Without output weights, which its config spells as null beside a logistic output.
    Path("two.yaml").write_text("w_in: 2\nw_rec: 1\ninputs: 1,2\n")
    assert hw2("rnn-trace", "--spec", "two.yaml") == 0
    config = there / "results/rnn-trace/two/config.yaml"
    assert hw2("rnn-trace", "--spec", str(config), "--name", "again") == 0
    found = json.loads((there / "results/rnn-trace/again/summary.json").read_text())
    assert found["final"]["output"] == 6


def test_a_number_of_two_digits_is_one_input_where_integers_are_read(
    hw2: Callable[..., int], there: Path
) -> None:
    assert hw2("rnn-trace", "--inputs", "15", "--name", "fifteen") == 0
    found = json.loads((there / "results/rnn-trace/fifteen/summary.json").read_text())
    assert found["final"]["hidden"] == [15]


def test_a_network_of_several_outputs_and_argmax_claims_nothing_it_cannot_prove(
    hw2: Callable[..., int], there: Path
) -> None:
    arguments = ["--set", "network.w_out=[[1],[-1]]", "--set", "network.output_activation=softmax"]
    assert hw2("rnn-trace", *arguments, "--inputs", "3,5", "--name", "largest") == 0
    found = json.loads((there / "results/rnn-trace/largest/summary.json").read_text())
    assert found["property"]["id"] is None
    assert found["final"]["output"] == 1  # h = 5 - 3: of 2 and -2 the first is larger
