"""What HAProxy tells of two slots."""

from __future__ import annotations

import pytest

from mlspec.providers.haproxy import Proxy

STATE = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 releases 1 blue1 127.0.0.1 2 0 200
3 releases 2 green1 127.0.0.1 0 0 0
"""
STATISTICS = """\
# pxname,svname,qcur,qmax,scur,
releases,blue1,0,0,3,
releases,green1,0,0,0,
releases,BACKEND,0,0,3,
"""


@pytest.mark.parametrize(
    ("state", "statistics", "expected"),
    [(STATE, STATISTICS, ({"blue1"}, 3, 200)), ("", "", (set(), 0, 0))],
    ids=["running", "ending"],
)
def test_what_it_tells_of_a_slot(state, statistics, expected):
    blue = Proxy(lambda _: [state, statistics], "here", 1).look()["blue"]
    assert (blue.up, blue.asked, blue.weight) == expected
