"""A server of OpenAI's API that is not pdserve and does what a test says."""

import http.server
import json
import threading


def chunk(text):
    return json.dumps({"choices": [{"index": 0, "text": text, "delta": {"content": text}}]})


USAGE = json.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})


class Asked(http.server.BaseHTTPRequestHandler):
    """One request; `body` is what was sent."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.models(self)

    def do_POST(self):
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.answer(self)

    def log_message(self, *_):
        pass

    def send(self, status, content, kind="application/json"):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.send(status, {"error": {"message": message}})

    def stream(self, *events, end="\n"):
        self.send(200, "".join(f"data: {event}{end}{end}" for event in (*events, "[DONE]")).encode(),
                  "text/event-stream")

    def speak(self, usage=True):
        """Three words and what they cost, streamed or whole, as it was asked."""
        if self.body.get("stream"):
            return self.stream(chunk("one"), chunk(" two"), chunk(" three"), *([USAGE] if usage else []))
        whole = {"choices": [{"text": "one two three", "message": {"content": "one two three"}}]}
        self.send(200, {**whole, **({"usage": json.loads(USAGE)["usage"]} if usage else {})})

    def say_nothing(self):
        self.close_connection = True
        self.server.ending.wait()


class StandIn(http.server.ThreadingHTTPServer):
    request_queue_size = 1000

    def __init__(self, answer=Asked.speak, models=None, model="m"):
        """`answer` and `models` get an Asked."""
        super().__init__(("127.0.0.1", 0), Asked)
        self.answer = answer
        self.models = models or (lambda asked: asked.send(200, {"data": [{"id": model}]}))
        self.ending = threading.Event()
        self.url = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass  # a client that has left

    def close(self):
        self.ending.set()
        self.shutdown()
        self.server_close()
