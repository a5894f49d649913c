import pytest
import torch

from hwcli.output.plots import to_png
from hwcli.vision import pictures
from hwcli.vision.fashion_mnist import CLASS_NAMES


@pytest.fixture
def judged() -> tuple[torch.Tensor, ...]:
    """Images, labels, predictions and their probabilities; every fifth is wrong."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(71) % 10
    predicted = torch.where(torch.arange(71) % 5 == 0, (labels + 3) % 10, labels)
    images = torch.randint(0, 256, (71, 28, 28), dtype=torch.uint8, generator=generator)
    return images, labels, predicted, torch.rand(71, generator=generator).half()


def test_a_confusion_matrix_counts_rows_of_true_classes(judged: tuple[torch.Tensor, ...]) -> None:
    _, labels, predicted, _ = judged
    figure = pictures.draw_confusion(labels, predicted, "title")
    matrix, bars = figure.axes
    texts = [text.get_text() for text in matrix.texts]
    assert (texts[0], texts[3], texts[13]) == ("", "8", "")  # all of class 0 taken for class 3
    assert texts[11] == "7"
    assert [text.get_text() for text in bars.texts][:2] == ["0.0", "100.0"]
    assert to_png(figure)


def test_the_gallery_starts_with_the_surest_mistake(judged: tuple[torch.Tensor, ...]) -> None:
    images, labels, predicted, probability = judged
    figure = pictures.draw_mistakes(images, labels, predicted, probability, "title")
    assert figure is not None
    wrong = (labels != predicted).nonzero()[:, 0]
    surest = int(wrong[probability[wrong].float().argmax()])
    title = figure.axes[0].get_title()
    assert title.startswith(f"says {CLASS_NAMES[int(predicted[surest])]}, ")
    assert title.endswith(f"is {CLASS_NAMES[int(labels[surest])]}")
    assert sum(bool(axes.get_title()) for axes in figure.axes) == len(wrong) == 15
    assert to_png(figure)
    assert pictures.draw_mistakes(images, labels, labels, probability, "title") is None


def test_rollout_and_positions_are_drawn(judged: tuple[torch.Tensor, ...]) -> None:
    images, labels, predicted, _ = judged
    shares = torch.rand(3, 7, 7).softmax(dim=-1) / 7
    figure = pictures.draw_rollout(images[:3], shares, labels[:3], predicted[:3], "title")
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        f"{CLASS_NAMES[0]}\n(says {CLASS_NAMES[3]})",
        f"{CLASS_NAMES[1]}\n",
    ]
    assert to_png(figure)
    similarity = torch.rand(3, 3, 3, 3)
    assert to_png(pictures.draw_positions(similarity, "title"))


def test_one_cell_alone_is_drawn_too() -> None:
    cell = {
        "layers": 4,
        "heads": 2,
        "test_accuracy_mean": 0.9,
        "test_accuracy_se": 0.01,
        "train_s": 30.0,
        "num_params": 12345,
    }
    assert to_png(pictures.draw_costs([cell], cell))
    row = {
        **{"layers": 4, "heads": 2, "difference": 0.0, "told_apart": None},
        **{"test_accuracy": 0.9, "other_test_accuracy": 0.9, "train_s": 1.0, "other_train_s": 2.0},
    }
    assert to_png(pictures.draw_comparison([row], "linear", "softmax"))
