"""Measuring the operators of a user's own device: ``tokensim profile``.

``plan`` and ``generic`` say which shapes are wanted, ``lines`` where interpolation between them would be off,
``session`` measures until that is less than what was asked for or the time is up, ``store`` keeps every
measurement at once, ``output`` writes the project's tables and a device file. What measures is a ``Bench``:
the one with PyTorch is in ``kernels``; nothing else here knows about PyTorch.
"""
