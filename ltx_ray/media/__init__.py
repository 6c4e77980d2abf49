"""Media files in and out: sound and images that shots are conditioned on, and the MP4 that comes of them."""
