"""The actors of the five stages, the pools that run them, and the coordinator that drives the pools."""
