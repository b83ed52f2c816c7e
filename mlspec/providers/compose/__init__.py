"""Containers of this machine as a target, by podman or docker, with HAProxy in front of them.

`engine`  every call of the program: lists of arguments, limits of time, errors in words
`site`    a deployment: its folder, its record, what runs of it
`proxy`   how HAProxy is told something while it runs
`slots`   a release comes up in its slot, is asked, is taken or left
`observe` what serves, and what differs from what was deployed
`compare` what of a container is not as mlspec had it made
`client`  observe, deploy, go back, stop, start, rename, destroy, logs
`trial`   looks at a candidate beside what serves, for rollouts
"""
