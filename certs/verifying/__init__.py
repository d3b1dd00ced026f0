"""The judgement of what is there: chains, names, constraints, revocation, key files; as OpenSSL would judge it."""
