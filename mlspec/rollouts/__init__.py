"""Safe rollouts: a new release takes traffic step by step, is judged, and goes back by itself.

`counts`     what a service measured of itself: read from its /metrics, and subtracted
`intervals`  what a share can be, seen from a sample, however often one looks
`judge`      pass, fail or inconclusive: counts of champion and candidate in, a verdict out
`engine`     the state machine: what a rollout does next; pure
`board`      where a rollout is shown and takes orders, and what is left of one that was killed
`comparison` champion and challenger beside each other, from what both answered
`driver`     carries out what the engine says, with the verbs of a target

A target takes part by one method, `try_out`, that gives a :class:`~mlspec.rollouts.driver.Trial`.
"""
