"""What is no request is refused, and counted."""

import re

import httpx


def test_what_is_no_request_is_counted(start_cluster):
    cluster = start_cluster()

    def told(status):
        text = httpx.get(f"{cluster.gateway}/metrics").text
        found = re.search(rf'pdserve_http_refused_total{{status="{status}"}} (\d+)', text)
        return int(found[1]) if found else 0
    compressed = httpx.post(f"{cluster.gateway}/v1/completions", content=b"x",
                            headers={"content-encoding": "gzip"})
    assert compressed.status_code == 415 and "Content-Encoding" in compressed.json()["error"]["message"]
    too_long = httpx.get(f"{cluster.gateway}/health", headers={"x-long": "x" * 70_000})
    assert too_long.status_code == 431
    assert (told(415), told(431), told(413)) == (1, 1, 0)
    health = httpx.get(f"{cluster.gateway}/health")
    assert '"requests_in_flight":0,' in health.text, health.text
