"""Endpoints of Amazon SageMaker as a target, through boto3.

`aws`    every call: errors in words, and no credentials in them
`client` observe, deploy, go back, stop, start, rename, destroy, logs
`trial`  a candidate beside what serves, for rollouts
"""
