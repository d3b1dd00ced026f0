"""`make demo`: a source with a write load, and a replica behind each deployment of Binlock, on hosts of their own."""
