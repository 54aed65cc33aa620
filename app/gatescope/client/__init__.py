"""A client of a running server: `Client`, and `AsyncClient` for asyncio; it needs neither torch nor a web framework."""

from gatescope.client.awaiting import AsyncClient, AsyncSession
from gatescope.client.blocking import Client, Session
from gatescope.client.prediction import Prediction, State, Step
from gatescope.client.problem import ServiceError, Unreachable

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "Client",
    "Prediction",
    "ServiceError",
    "Session",
    "State",
    "Step",
    "Unreachable",
]
