import re

import numpy as np
import pytest

from hwcli.sentiment.baselines import BASELINES, split_words, units
from hwcli.sentiment.reviews import Reviews
from tests.sentiment.tiny import make_reviews


@pytest.mark.parametrize("name", BASELINES)
def test_a_bag_of_words_learns_words_that_tell(name: str) -> None:
    train, test = make_reviews(211, seed=1), make_reviews(101, seed=2)
    predicted = BASELINES[name](train, test)
    assert (predicted == np.array(test.labels)).mean() > 0.95


@pytest.mark.parametrize("name", BASELINES)
def test_a_few_reviews_are_enough_to_run(name: str) -> None:
    train = make_reviews(7, seed=4)
    assert len(BASELINES[name](train, make_reviews(5, seed=5))) == 5


@pytest.mark.parametrize("name", BASELINES)
def test_a_language_without_spaces_is_counted_by_characters(name: str) -> None:
    likes, hates = "很好看我喜欢这部电影", "太难看了我讨厌这部片"
    texts = [(likes, hates)[i % 2] + "的" * i for i in range(120)]
    reviews = Reviews(texts, [(i + 1) % 2 for i in range(120)])
    assert BASELINES[name](reviews, reviews).tolist() == list(reviews.labels)


def test_words_keep_apostrophes_and_punctuation() -> None:
    assert split_words("Don't!<br />Go.") == ["don't", "!", "go", "."]


@pytest.mark.parametrize("text", ["बुरी फिल्म", "ভালো ছবি", "நல்ல திரைப்படம்", "cafe\u0301 ole\u0301"])
def test_a_vowel_sign_does_not_cut_a_word(text: str) -> None:
    assert split_words(text) == text.split()
    assert re.findall(units([text])["token_pattern"], text) == text.split()


def test_english_words_are_those_of_scikit_learn() -> None:
    text = "I don't care: 2 o'clock, x_1 & naïve - a B-movie's end!! __ 3D\u00ad(so) 'tis"
    own = r"(?u)\b\w\w+\b"
    assert re.findall(units([text])["token_pattern"], text) == re.findall(own, text)
    before = r"\w+(?:'\w+)?|[!?.,;:()]"
    assert split_words(text) == re.findall(before, text.lower())
