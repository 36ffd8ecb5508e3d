"""Ties tests to rows of tests/conformance-rows.txt. The ids become part of the test's name."""

import pytest


def covers(*ids):
    return pytest.mark.parametrize("rows", [pytest.param(ids, id="+".join(ids))])


def table(names, *lines):
    """One test per line; the first column is the row id (several: joined by +), not a value."""
    return pytest.mark.parametrize(
        names, [pytest.param(*line[1:], id=f"{line[0]}-{n}") for n, line in enumerate(lines)])
