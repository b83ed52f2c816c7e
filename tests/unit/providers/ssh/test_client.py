"""What is asked of a host when a release goes back; the host is a stand-in that keeps files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlspec.compilers.systemd import CONFIG, PROXY
from mlspec.providers.ssh import client
from mlspec.providers.ssh.site import Facts, Kept, Site

PLACE = {"project": "shop", "host": "ml1", "listen": "127.0.0.1"}
FACTS = Facts(
    user="mlspec",
    folder="/home/mlspec/mlspec",
    units="user",
    unit_folder="/home/mlspec/.config/systemd/user",
    runtime="/run/user/1000",
    version="3.11",
    interpreter="x86_64 /usr/bin/python3.11",
    haproxy="/usr/sbin/haproxy",
    systemctl="/usr/bin/systemctl",
    journalctl=None,
    loginctl=None,
)
BEFORE = Kept(
    release="a" * 64,
    model="churn",
    version=1,
    status="serving",
    token=1,
    slot="blue",
    since="2026-01-01T00:00:00+00:00",
    files="a" * 24,
    environment="e" * 24,
    bentoml=False,
    workers=1,
    ports={"blue": 20001, "green": 20002},
    state="mlspec-shop_prod_loans",
    settings={"ssh": PLACE, "port": 3000, "cpus": 1.0, "memory": None, "capture": None},
)


class Host:
    where = "target prod, host ml1"

    def __init__(self) -> None:
        self.files = {}
        self.started = []

    def ask(self, do, patience=0.0, **what):  # noqa: ARG002 as the connection has it
        return getattr(self, f"do_{do}")(**what)

    def many(self, calls, patience=0.0):  # noqa: ARG002 likewise
        return [self.ask(**call) for call in calls]

    def do_read(self, path):
        return self.files.get(path)

    def do_write(self, path, text, mode=0o644):  # noqa: ARG002 likewise
        self.files[path] = text

    def do_run(self, command, **_):
        words = [each for each in command if each.endswith(".service")]
        if "start" in command:
            self.started += words
        shown = "\n\n".join(f"Id={each}\nActiveState=active" for each in words)
        return {"code": 0, "said": shown}

    def do_proxy(self, socket_path, commands):  # noqa: ARG002 likewise
        return ["" for _ in commands]

    def do_is_free(self, address, port):  # noqa: ARG002 likewise
        return True

    def do_if_lost(self, calls):
        pass


@pytest.fixture
def site():
    found = Site(Host(), FACTS, PLACE, "prod", "loans")
    client._ensure_proxy(found, BEFORE, None)
    return found


def test_a_release_that_goes_back_gives_haproxy_its_port_back(site):
    wanted = replace(BEFORE, slot="green", settings={**BEFORE.settings, "port": 3999})
    files, config = site.host.files, f"{site.folder}/{CONFIG}"
    settled = dict(files)
    client._ensure_proxy(site, wanted, BEFORE)
    assert "bind 127.0.0.1:3999\n" in files[config]
    client._leave(site, wanted, BEFORE)
    assert files == settled
    assert "bind 127.0.0.1:3000\n" in files[config]


def test_haproxy_that_is_as_it_should_be_stays(site):
    started = list(site.host.started)
    assert [name.endswith(f"-{PROXY}.service") for name in started] == [True]
    client._leave(site, replace(BEFORE, slot="green"), BEFORE)
    assert site.host.started == started
