"""Training of LTX-Video's parts, and the synthetic world on which the built-in checkpoint is trained."""
