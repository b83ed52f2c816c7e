"""The agent that follows a branch: looks, decides, applies each new commit, tells what it did.

clone      what the branch has, and which commit is checked out here
memory     what was attempted, in a file below .mlspec
decision   memory + branch + clock -> what to do now; pure
telemetry  what is told to Prometheus
agent      goes round
"""
