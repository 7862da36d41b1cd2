"""A worker for TestTasksOutliveNodesAndWorkers. POSTA_TO names the nodes."""

import asyncio
import time

from posta import Posta

app = Posta()


@app.action(name="python")
def double(number: int) -> int:
    time.sleep(0.05)  # stands for work
    return 2 * number


@app.action(name="python_async")
async def double_async(number: int) -> int:
    await asyncio.sleep(0.05)  # stands for work
    return 2 * number


app.work(slots=8)
