"""HTTPS at the gateway with real clients, and certificates renewed while it serves."""

import json
import socket
import ssl
import subprocess
import warnings

import httpx
import openai
import pytest

from harness.processes import wait_until


def make_certificate(folder, name="cert", days="30"):
    """A pair signed by itself for this machine: the paths of certificate and key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", days, "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


class Https:
    def __init__(self, start_cluster, folder):
        self.certificate, self.key = make_certificate(folder)
        self.cluster = start_cluster(certificate=self.certificate, config={"gateway": {
            "tls_certificate": str(self.certificate), "tls_key": str(self.key)}})
        self.port = int(self.cluster.gateway.rsplit(":", 1)[1])

    def body(self, **fields):
        return {"model": self.cluster.model, "prompt": "Once upon a time", "temperature": 0,
                "max_tokens": 24, **fields}

    def presented(self):
        """The certificate that a new connection is shown."""
        return ssl.get_server_certificate(("127.0.0.1", self.port)).strip()


@pytest.fixture
def https(start_cluster, tmp_path):
    return Https(start_cluster, tmp_path)


def test_clients_of_all_kinds(https, program):
    cluster = https.cluster
    assert cluster.gateway.startswith("https://")
    trusted = httpx.Client(verify=ssl.create_default_context(cafile=https.certificate), timeout=60)
    client = openai.OpenAI(base_url=f"{cluster.gateway}/v1", api_key="none", http_client=trusted)
    whole = client.completions.create(**https.body())
    parts = [chunk.choices[0].text for chunk in client.completions.create(**https.body(stream=True))
             if chunk.choices]
    assert "".join(parts) == whole.choices[0].text

    url = f"{cluster.gateway}/v1/completions"
    curl = subprocess.run(["curl", "-sS", "--cacert", https.certificate, url, "-d",
                           json.dumps(https.body())], capture_output=True, text=True, timeout=60)
    assert json.loads(curl.stdout)["choices"][0]["text"] == whole.choices[0].text, curl.stderr
    h2 = subprocess.run(["curl", "-sS", "--http2", "--cacert", https.certificate,
                         f"{cluster.gateway}/health", "-w", " %{http_version}"],
                        capture_output=True, text=True, timeout=60)
    assert h2.stdout.endswith(" 1.1"), (h2.stdout, h2.stderr)

    chat = program.run("chat", cluster.gateway, stdin="Hello\n")
    assert chat.returncode == 1 and "--cacert" in chat.stderr and "running?" not in chat.stderr

    assert f"curl --cacert {https.certificate}" in cluster.output(), "what `up` teaches"

    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{cluster.gateway}/health")
    plain = httpx.get(f"http://127.0.0.1:{https.port}/health")
    assert plain.status_code == 400 and "https://" in plain.json()["error"]["message"]

    refused = program.run("chat", cluster.gateway, stdin="Hello\n")
    assert refused.returncode == 1 and "certificate refused" in refused.stderr
    # Its model has no chat template: that answer, too, has come through TLS.
    asked = program.run("chat", cluster.gateway, "--cacert", https.certificate, stdin="Hello\n")
    assert "chat template" in asked.stderr + asked.stdout, asked
    cluster.check_and_end()


def test_old_protocols_and_foreign_ones_are_refused(https):
    def shake_hands(context):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", https.port), timeout=10) as raw:
            with context.wrap_socket(raw) as secured:
                return secured.version(), secured.selected_alpn_protocol()

    assert shake_hands(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) == ("TLSv1.3", None)
    both = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    both.set_alpn_protocols(["h2", "http/1.1"])
    assert shake_hands(both)[1] == "http/1.1"
    only_h2 = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    only_h2.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError):
        shake_hands(only_h2)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are deprecated is the point
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shake_hands(old)
    https.cluster.check_and_end()


def test_a_renewed_certificate_leaves_streams_alone(https, tmp_path):
    cluster, before = https.cluster, https.presented()
    tokens = 200
    with cluster.http.stream("POST", f"{cluster.gateway}/v1/completions",
                             json=https.body(stream=True, max_tokens=tokens, ignore_eos=True,
                                             stream_options={"include_usage": True})) as answer:
        lines = answer.iter_lines()
        seen = [next(lines)]
        certificate, key = make_certificate(tmp_path, "renewed")
        https.key.write_text("broken")  # a renewal that goes wrong changes nothing
        wait_until(lambda: "stays as it was" in cluster.logs(None), 10, cluster.logs)
        assert https.presented() == before
        key.replace(https.key)
        certificate.replace(https.certificate)
        wait_until(lambda: https.presented() == https.certificate.read_text().strip(), 10,
                   cluster.logs)
        seen += list(lines)
    data = [line for line in seen if line.startswith("data: ")]
    assert data[-1] == "data: [DONE]"
    assert json.loads(data[-2][6:])["usage"]["completion_tokens"] == tokens
    cluster.http = httpx.Client(verify=ssl.create_default_context(cafile=https.certificate),
                                timeout=60)
    assert cluster.metrics()["pdserve_tls_certificate_refused_total"] >= 1
    cluster.check_and_end()


def test_mistakes_are_named_before_anything_starts(program, tmp_path):
    certificate, key = make_certificate(tmp_path)
    other, _ = make_certificate(tmp_path, "other")

    def up(**gateway):
        config = tmp_path / "config.toml"
        lines = [f'{name} = "{value}"' for name, value in gateway.items()]
        config.write_text("\n".join(["[gateway]", "port = 0", *lines]))
        done = program.run("up", "--config", config, "--model", program.model, "--no-question")
        checked = program.run("check", "--config", config, "--model", program.model)
        assert done.returncode != 0 and checked.returncode != 0
        return done.stderr, checked.stdout + checked.stderr

    for text in up(tls_certificate=certificate):
        assert "set both or none" in text
    for text in up(tls_certificate=other, tls_key=key):
        assert "does not belong" in text
    for text in up(tls_certificate=tmp_path / "none", tls_key=key):
        assert str(tmp_path / "none") in text
