"""Options and fixtures of the end-to-end tests."""

import mmap
import os
import pathlib
import random

import httpx
import pytest

from harness.cluster import Cluster, Program

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def pytest_addoption(parser):
    parser.addoption("--pdserve", required=True, help="the program under test")
    parser.addoption("--scale", type=float, help="repeats experiments that many times as often "
                     "(default: the environment's PDSERVE_E2E_SCALE, or 1)",
                     default=float(os.environ.get("PDSERVE_E2E_SCALE", "1")))
    parser.addoption("--requests", type=int, help="how many valid and as many invalid requests "
                     "test_openapi draws (default: 400 times the scale)")
    parser.addoption("--seed", type=int, default=1, help="of everything that the tests draw")


def is_sanitized(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        return image.find(b"__asan_init") >= 0 or image.find(b"__tsan_init") >= 0


def pytest_report_header(config):
    return (f"pdserve: {config.getoption('--pdserve')}, scale {config.getoption('--scale')}, "
            f"seed {config.getoption('--seed')}")


@pytest.fixture(scope="session")
def program(request, tmp_path_factory):
    path = request.config.getoption("--pdserve")
    return Program(path, str(ROOT / "assets/models/stories260K"),
                   str(tmp_path_factory.mktemp("weights")), 5.0 if is_sanitized(path) else 1.0)


@pytest.fixture(scope="session")
def scaled(request):
    """How often to repeat: scaled(10) is 10, or more in a nightly run."""
    factor = request.config.getoption("--scale")
    return lambda count: max(1, round(count * factor))


@pytest.fixture
def rng(request):
    """Its own stream for each test, the same in each run."""
    return random.Random(f"{request.config.getoption('--seed')} {request.node.nodeid}")


@pytest.fixture(scope="session")
def seed(request):
    return request.config.getoption("--seed")


def _factory(program, folder):
    made = []

    def start(begin=True, **options):
        cluster = Cluster(program, folder / f"c{len(made)}", **options)
        (folder / f"c{len(made)}").mkdir()
        made.append(cluster)
        return cluster.start() if begin else cluster.spawn()
    return start, made


@pytest.fixture
def start_cluster(program, tmp_path):
    """start_cluster(prefill=2, config={...}) -> Cluster; none outlives the test."""
    start, made = _factory(program, tmp_path)
    yield start
    for cluster in made:
        cluster.close()


@pytest.fixture(scope="module")
def start_shared_cluster(program, tmp_path_factory):
    """The same for clusters that all tests of a module use; they are checked at its end."""
    start, made = _factory(program, tmp_path_factory.mktemp("shared"))
    yield start
    try:
        for cluster in made:
            cluster.check_and_end()
    finally:
        for cluster in made:
            cluster.close()


class Api:
    """Plain requests to one gateway."""

    def __init__(self, cluster):
        self.model = cluster.model
        self.http = httpx.Client(base_url=cluster.gateway, timeout=60 * cluster.program.patience)

    def post(self, path, **body):
        return self.http.post(path, json=body)

    def complete(self, prompt="Once upon a time", **fields):
        """A completion that must succeed."""
        body = {"prompt": prompt, "temperature": 0, "max_tokens": 16, **fields}
        answer = self.http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refuse(self, status, path="/v1/completions", **body):
        """A request that must fail with `status`; its error object."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return check_error(answer)


def check_error(answer):
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert error["message"] and error["type"], error
    return error


@pytest.fixture(scope="session")
def make_api():
    return Api
