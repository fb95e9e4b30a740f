"""The data of a run's figures: small tidy tables, made from the log once, of the same size for any run."""
