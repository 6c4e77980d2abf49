"""Sampling: noise and conditioning in, the final latents of one chunk out. Knows no actor and no file."""
