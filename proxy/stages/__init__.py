"""The stages of a session, in their order; each takes the proof that the one before returned.

0. `preamble`: who connects, where a load balancer says it.
1. `admission`: the address against the allowlist.
2. `source`: the source is dialled, and greets.
3. `greeting`: its greeting goes to the replica.
4. `tls`: the replica leg is encrypted.
5. `identity`: the verified leaf against the roster.
6. `authentication`: the login goes to the source (with `attributes`, and through `departures` where it breaks off).
7. `policy`, at work in `command_phase`: what may be asked before the dump.
8. `relay`: the binlog, and nothing else.

`objections` is what a rule does when it objects. `proxy.session` runs them.
"""
