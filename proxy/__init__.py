"""The encrypting sidecar: trio outside, `wire` inside, pyOpenSSL at one door."""
