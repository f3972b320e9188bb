#!/usr/bin/env python3
"""Opens so many streams on an OpenAI server, reads the first event of each, says "open", and holds them until its input ends.

  bench/open_streams.py HOST:PORT COUNT
"""

import asyncio
import json
import sys

AT_ONCE = 200  # that wait for their first event


async def open_stream(host, port, gate):
    body = json.dumps({"prompt": "the of and", "max_tokens": 400, "stream": True}).encode()
    async with gate:
        reader, writer = await asyncio.open_connection(host, port, limit=4096)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
                     b"content-length: %d\r\n\r\n%s" % (len(body), body))
        try:
            await reader.readuntil(b"data: {")
        except asyncio.IncompleteReadError as end:
            sys.exit(f"no stream: {end.partial.decode(errors='replace')}")
    return reader, writer


async def main():
    host, port = sys.argv[1].rsplit(":", 1)
    gate = asyncio.Semaphore(AT_ONCE)
    streams = await asyncio.gather(*(open_stream(host, int(port), gate) for _ in range(int(sys.argv[2]))))
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    ended = sum(reader.at_eof() for reader, _ in streams)
    if ended:
        sys.exit(f"{ended} streams ended by themselves")


asyncio.run(main())
