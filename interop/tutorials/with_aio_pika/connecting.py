"""Where the tutorials find their broker, and how a receiving program runs until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine

import aio_pika
from aio_pika.abc import AbstractRobustConnection


async def connect() -> AbstractRobustConnection:
    return await aio_pika.connect_robust(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/"))


def run_until_interrupted(main: Coroutine[None, None, None]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main)
