"""A client of a running server: `Client`, and `AsyncClient` for asyncio; it needs neither torch nor a web framework."""

from app.client.awaiting import AsyncClient, AsyncSession
from app.client.blocking import Client, Session
from app.client.prediction import Prediction, State, Step
from app.client.problem import ServiceError, Unreachable

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
