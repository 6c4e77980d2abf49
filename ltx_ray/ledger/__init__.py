"""The ledger: the truth about a run, as small create-only files under OUT/ledger/<shard>/<epoch>/."""
