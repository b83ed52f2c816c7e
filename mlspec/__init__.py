"""Declarative, GitOps-style MLOps: a spec is planned, applied and recorded.

Read :mod:`mlspec.plan` for the nouns, :mod:`mlspec.reconcile` for the way through.
"""

__version__ = "0.1.0"
