"""Real MySQL and MariaDB servers in a private folder, and hosts in network namespaces."""
