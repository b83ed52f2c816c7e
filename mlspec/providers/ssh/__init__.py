"""Deployments on a plain host: systemd has the processes, HAProxy the port, OpenSSH the way.

:mod:`.host` is the connection, :mod:`.remote` its far end, :mod:`.client` what a command does, and
:mod:`.compare` finds what is not as it was deployed. What is written there is compiled by
:mod:`mlspec.compilers.systemd`.
"""
