"""Takes over a repository that was run with DVC alone: its pipelines become a spec.

:mod:`mlspec.adoption.repository` is what DVC tells of it, :mod:`mlspec.adoption.convert` makes a
spec of that, :mod:`mlspec.adoption.carry` carries over what was run already.
"""
