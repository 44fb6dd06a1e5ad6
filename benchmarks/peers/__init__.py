"""The peers: one file each, run as ``python -m benchmarks.peers.<name> [option] CONNECTIONS READY_FD GO_FD``.

Each is the peer's own recommended use, as its documentation shows it. What
they have in common (the pipes, the events) is in :mod:`benchmarks.peers.stage`;
which there are, in :mod:`benchmarks.peers.catalogue`.
"""
