"""What `mlspec compare` makes of labels, and of ids that are not those of one request."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlspec.commands.compare import _as_value, _Side, _without_shared
from mlspec.errors import MlspecError


@pytest.mark.parametrize("text", ["", "nan", "NaN", "inf", "unknown"])
def test_a_label_that_is_no_number_is_refused_where_predictions_are(text):
    assert _as_value(text, "yes") == text
    with pytest.raises(MlspecError, match="is no number"):
        _as_value(text, 0.5)


def test_an_id_that_both_answered_is_of_neither():
    champion, challenger = (
        _Side(SimpleNamespace(), None, {(each, 0): each for each in ids})
        for ids in (["a", "b"], ["b", "c"])
    )
    first, second = _without_shared(champion, challenger)
    assert set(first.predicted) == {("a", 0)}
    assert set(second.predicted) == {("c", 0)}
