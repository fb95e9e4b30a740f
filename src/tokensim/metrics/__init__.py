"""From a run's log to its figures: latency, gaps between tokens, SLO, usage, where the time went, cost,
tables.
"""
