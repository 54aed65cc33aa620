"""A client of a running server: `Client`, and `AsyncClient` for asyncio. It needs NumPy and httpx alone."""

from gatescope.client._async import AsyncClient, AsyncSession
from gatescope.client._sync import Client, Session
from gatescope.client.backtesting import Backtest
from gatescope.client.generation import AsyncGeneration, Generation, Token
from gatescope.client.prediction import Head, Prediction, Sample, State, Step
from gatescope.client.problem import ServiceError, Unreachable

__all__ = [
    "AsyncClient",
    "AsyncGeneration",
    "AsyncSession",
    "Backtest",
    "Client",
    "Generation",
    "Head",
    "Prediction",
    "Sample",
    "ServiceError",
    "Session",
    "State",
    "Step",
    "Token",
    "Unreachable",
]
