"""The simulated cluster as a live endpoint: OpenAI's API in front of the engine, driven by the clock."""
