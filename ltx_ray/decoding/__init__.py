"""Decoding: from final latents to frames, tile by tile, and what that costs in context and memory."""
