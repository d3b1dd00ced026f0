"""The certificate authority that replication needs."""
