"""Containers of this machine as a target, by podman or docker, with HAProxy in front of them.

`engine`  every call of the program: lists of arguments, limits of time, errors in words
`proxy`   HAProxy while it runs: weights, who is up, who still answers
`compare` what of a container is not as mlspec had it made
`client`  observe, deploy, go back, stop, start, rename, destroy, logs
`trial`   a candidate beside what serves, for rollouts
"""
