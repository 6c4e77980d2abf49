"""Autoencoders beyond diffusers': decoding and encoding in a budget of memory, and a wavelet transform."""
