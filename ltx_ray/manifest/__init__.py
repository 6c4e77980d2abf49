"""Manifests: rows in (read, index, row, shot, identity), results out (schema, output)."""
