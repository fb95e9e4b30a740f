"""Measured cases from a live server: a workload of ours is sent to it, and what it answers is timed.

``run.record`` does it: it asks the server what it is (``probe``), finds out how it wants to be asked
(``trial``), makes prompts that share what the workload says they share (``prompts``), sends each request when
the simulator's own client would (``schedule``, ``load``), reads the server's metrics beside it (``scrape``),
and ``write`` leaves a case for ``validate`` and ``calibrate``.
"""
