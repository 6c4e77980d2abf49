"""Planning: from a shot to its graph of tasks. Pure and exact; imports neither torch nor ray."""
