"""Checkpoints: finding and loading them, their presets, what the condition stage computes, and `tiny`."""
