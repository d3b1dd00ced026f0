"""The proxy beside its peers, measured in one run."""
