"""The one line that an error of another library is told in."""

import errno
import os

import pytest

from hwcli.errors import first_line, reason_of


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  no such column\n  in row 3"), "no such column"),
        (RuntimeError(), "RuntimeError"),
        (OSError("\n"), "OSError"),
        (ValueError("x" * 1000), "x" * 200),
    ],
)
def test_the_first_line_of_an_error_or_its_type_where_it_says_nothing(
    error: Exception, line: str
) -> None:
    assert first_line(error) == reason_of(error) == line


def test_a_file_that_cannot_be_read_is_told_in_the_systems_words() -> None:
    error = OSError(errno.EACCES, os.strerror(errno.EACCES), "/a/file")
    assert reason_of(error) == "Permission denied"
