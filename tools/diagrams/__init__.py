"""The figures of ``docs/concepts``: drawn from runs of the simulator, as SVG that follows light and dark."""
