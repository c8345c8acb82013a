"""A web application with a worker beside it: its requests put orders, its worker bills them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kstream import Producer, Record, Worker

STREAM = os.environ["STREAM"]

producer = Producer(STREAM)
worker = Worker(STREAM, group="billing")
billed: list[str] = []


@worker.handler
async def bill(record: Record) -> None:
    """Bill an order."""
    billed.append(record.value.decode())


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Connect before the first request; after the last one, flush, drain and hand over."""
    async with producer, worker:
        yield


async def order(request: Request) -> JSONResponse:
    """Take an order: durable when this returns."""
    receipt = await producer.put(await request.body(), key=request.path_params["customer"])
    return JSONResponse({"sequence": receipt.sequence})


async def show(_: Request) -> JSONResponse:
    """Tell what was billed so far."""
    return JSONResponse(billed)


app = Starlette(
    routes=[Route("/orders/{customer}", order, methods=["POST"]), Route("/billed", show)],
    lifespan=lifespan,
)
