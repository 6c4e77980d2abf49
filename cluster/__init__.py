"""The machines: connecting to Ray, and what an actor of each stage takes of a node."""
