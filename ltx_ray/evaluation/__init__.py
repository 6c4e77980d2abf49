"""Figures of finished videos: sound against picture, seams of chunks and tiles, drift, life, the world's
truth."""
