"""Measured operator times: formats that are read, the canonical form, and interpolation in it."""
