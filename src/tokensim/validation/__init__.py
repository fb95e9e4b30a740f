"""Measured cases: how far the simulation is from them, and the few constants that can be fitted to them."""
