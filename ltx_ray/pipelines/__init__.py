"""Pipelines for one process, in diffusers' manner, on the functions of the render farm's stages."""
