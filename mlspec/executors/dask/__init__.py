"""Stages on the workers of a Dask cluster that exists already.

:mod:`~mlspec.executors.dask.client` is the side of mlspec, :mod:`~mlspec.executors.dask.task` that
of a worker. A worker may have another Python, or no mlspec: what is sent to it is text, and
functions of Python itself.
"""
