"""FastAPI as tutorials serve a model: a pydantic body, a `def` endpoint, one sequence at a time."""

from __future__ import annotations

import torch
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.network import served

app = FastAPI()
_, network = served()


class Body(BaseModel):
    """One sequence."""

    inputs: list[list[float]]


@app.post("/predict")
def predict(body: Body) -> dict[str, list[float]]:
    """Its prediction."""
    with torch.no_grad():
        return {"prediction": network(torch.tensor([body.inputs]))[0].tolist()}
