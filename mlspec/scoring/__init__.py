"""Bulk scoring: the rows of a file in, a prediction for each out.

Comes in: a file (:mod:`mlspec.scoring.reading`) and a way to ask a service for predictions
(:mod:`mlspec.scoring.asking`). Goes out: another file (:mod:`mlspec.scoring.writing`). The model
runs in a service of its own, so that a file is answered as requests are.
"""
