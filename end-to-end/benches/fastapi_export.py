"""The export as one would write it in an afternoon: FastAPI and asyncpg, buffered. For the comparison alone."""

import gzip
import json
import os

import asyncpg
from fastapi import FastAPI, Response

app = FastAPI()


@app.get("/export")
async def export():
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE"])
    rows = await connection.fetch("SELECT seq, time, tag, value, unit, quality FROM flat ORDER BY seq")
    await connection.close()
    lines = [json.dumps({**row, "time": row["time"].isoformat()}, separators=(",", ":")) for row in rows]
    body = gzip.compress(("\n".join(lines) + "\n").encode(), 6)
    return Response(body, media_type="application/gzip", headers={"X-Record-Count": str(len(lines))})
