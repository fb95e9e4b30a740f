"""Exploration: from one run to a decision. Many runs of a scenario, on one machine or on a cluster.

Every command here is the same in Python. All of them make ``Task``s, which an executor evaluates wherever it
likes; what comes back is plain data, the same bits wherever it ran.
"""
