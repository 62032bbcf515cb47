"""Speed and memory, each by one command: ``python -m bench NAME``, at the repository's root.

Outside of the package, since nobody needs it who only uses that. PyTorch stands here as the peer
that everything is measured against; no figure is asserted by a test.
"""
