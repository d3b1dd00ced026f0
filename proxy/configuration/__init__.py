"""The configuration file, and the certificates, keys and CRLs that it names: read and judged, and not served yet."""
