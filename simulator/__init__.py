"""A stand-in for GitHub and Copilot on one loopback port, as odd as the originals.

It shares no code with the gateway, so that both cannot be wrong in the same way.
Start it with `python -m simulator --port 8787`; tests use `simulator.testing.SimulatorThread`.
Source of every behaviour: docs/upstream.md. What can be played: docs/simulator.md.
"""

from simulator.app import Simulator

__all__ = ["Simulator"]
