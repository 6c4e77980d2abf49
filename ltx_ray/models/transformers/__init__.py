"""The transformer with audio cross-attention in some of its layers, and the adapter file that holds it."""
