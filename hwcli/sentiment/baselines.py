"""What bags of words come to on the same reviews: a transformer has to beat them first.

Both are linear classifiers over word and bigram counts, trained in seconds on a CPU.
"""

import functools
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwcli.sentiment.reviews import Reviews, clean

TFIDF = "TF-IDF + logistic regression"
NBSVM = "NB-SVM bigrams"


# Characters between two spaces, at most, of a language that puts spaces between its words.
LONGEST_WORDS = 20


@functools.cache
def _letters() -> str:
    """Return what a word goes on with, for a class of a pattern.

    To Python's own class of letters a combining mark is none: the vowel signs of Hindi, Bengali or
    Tamil would cut their words.
    """
    codes = range(sys.maxunicode + 1)
    marks = [code for code in codes if unicodedata.category(chr(code)).startswith("M")]
    # As ranges: a class of thousands of single characters is slow.
    breaks = [i for i in range(1, len(marks)) if marks[i] != marks[i - 1] + 1]
    runs = zip([0, *breaks], [*breaks, len(marks)], strict=True)
    return r"\w" + "".join(f"{chr(marks[first])}-{chr(marks[end - 1])}" for first, end in runs)


@functools.cache
def _words() -> re.Pattern[str]:
    """Return the pattern of words, and of punctuation that carries feeling."""
    word = rf"\w[{_letters()}]*"
    return re.compile(rf"{word}(?:'{word})?|[!?.,;:()]")


def split_words(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation."""
    return _words().findall(clean(text).lower())


def units(texts: Sequence[str]) -> dict[str, Any]:
    """Return what a vectorizer counts: words and pairs of words, or runs of up to 3 characters.

    Characters where texts hardly have spaces: Chinese, Japanese and Thai, for example.
    """
    num_words = sum(len(text.split()) for text in texts)
    if sum(map(len, texts)) > LONGEST_WORDS * num_words:
        return {"analyzer": "char", "ngram_range": (1, 3)}
    # As scikit-learn's own pattern: words of two characters and more.
    return {"ngram_range": (1, 2), "token_pattern": rf"\w[{_letters()}]+"}


def tfidf_logistic(train: Reviews, test: Reviews) -> NDArray[np.int64]:
    """Predict classes by logistic regression over TF-IDF of :func:`units` (sublinear, C 10)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    few = 3 if len(train) >= 100 else 1
    vectorizer = TfidfVectorizer(**units(train.texts), sublinear_tf=True, min_df=few)
    weights = vectorizer.fit_transform(map(clean, train.texts))
    model = LogisticRegression(C=10.0, max_iter=1000).fit(weights, train.labels)
    return np.asarray(model.predict(vectorizer.transform(map(clean, test.texts))), np.int64)


def nb_svm(train: Reviews, test: Reviews) -> NDArray[np.int64]:
    """Predict classes by a linear SVM over naive Bayes log-count ratios of words and bigrams.

    Wang and Manning 2012, "Baselines and Bigrams": r = log((p / |p|) / (q / |q|)) with add-one
    counts p, q of the features present in positive and negative reviews; C 0.01.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.svm import LinearSVC

    few = 2 if len(train) >= 100 else 1
    counted = units(train.texts)
    if "analyzer" not in counted:
        counted |= {"tokenizer": split_words, "token_pattern": None, "lowercase": False}
    vectorizer = CountVectorizer(**counted, binary=True, min_df=few)
    present = vectorizer.fit_transform(train.texts).astype(np.float64)
    positive = np.asarray(train.labels) == 1
    p = 1.0 + np.asarray(present[positive].sum(axis=0)).ravel()
    q = 1.0 + np.asarray(present[~positive].sum(axis=0)).ravel()
    ratio = np.log(p / p.sum()) - np.log(q / q.sum())
    model = LinearSVC(C=0.01, max_iter=5000, random_state=0)
    model.fit(present.multiply(ratio).tocsr(), train.labels)
    unseen = vectorizer.transform(test.texts).astype(np.float64)
    return np.asarray(model.predict(unseen.multiply(ratio).tocsr()), np.int64)


BASELINES: Mapping[str, Callable[[Reviews, Reviews], NDArray[np.int64]]] = {
    TFIDF: tfidf_logistic,
    NBSVM: nb_svm,
}
