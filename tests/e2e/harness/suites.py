"""The conformance suites of tests/data/suites."""

import dataclasses
import json
import pathlib
import re
import tarfile

_FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent / "data/suites"


def _files(archive, ending):
    with tarfile.open(_FOLDER / archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()
                if member.isfile() and member.name.endswith(ending)}


def openapi():
    return json.loads((_FOLDER / "openai_openapi.json").read_text())


def json_documents():
    """Name -> bytes. The name begins with y_ (must be read), n_ (must be refused) or i_ (either)."""
    found = {}
    for path, data in _files("json_test_suite.tar.xz", ".json").items():
        folder, name = path.split("/")
        # What test_transform asks is which value comes out; a server may refuse the odd ones.
        found[name if folder == "test_parsing" else f"i_{name}"] = data
    return found


@dataclasses.dataclass
class HttpCase:
    name: str
    strict: bool  # llhttp read it in its strict mode
    data: bytes
    messages: list = dataclasses.field(default_factory=list)  # complete ones: (method, target)
    error: int = 0  # llhttp's error after these, 0: none
    open: bool = False  # it ends within a message

    # Errors of llhttp that refuse no message: it leaves what follows an upgrade to its user, and
    # there are bytes behind a message that closes the connection.
    MILD = (5, 22, 23)


def http_cases():
    """llhttp's requests and what it makes of them."""
    made = []
    for path, text in sorted(_files("llhttp_request.tar.xz", ".md").items()):
        made += _cases_of(pathlib.PurePath(path).stem, text.decode())
    names = [case.name for case in made]
    assert len(set(names)) == len(names)
    return made


def servable(data):
    """With a Host where it is missing, and without the fragment that many targets happen to have."""
    parts = re.split(rb"(?m)(^[A-Z-]+ \S+ HTTP/1\.1 ?\r\n)", data)
    for i in range(1, len(parts), 2):
        head = parts[i + 1].split(b"\r\n\r\n")[0]
        if not re.search(rb"(?im)^host:", head):
            parts[i] += b"Host: a\r\n"
        parts[i] = re.sub(rb"#\S+", b"", parts[i])
    return b"".join(parts)


_CASE = re.compile(r"(?P<titles>.*?)<!-- meta=(?P<meta>\{.*?\}) -->\s*```http\n(?P<http>.*?)```\n"
                   r".*?```log\n(?P<log>.*?)```", re.DOTALL)


def _cases_of(stem, text):
    seen = {}
    for match in _CASE.finditer(text):
        meta = json.loads(match["meta"])
        if meta.get("skipBody"):
            continue  # a switch of llhttp's: its user says that there is no body
        title = re.findall(r"^#+ (.*)$", match["titles"], re.MULTILINE)[-1]
        seen[title] = seen.get(title, 0) + 1
        ordinal = f" ({seen[title]})" if seen[title] > 1 else ""
        case = HttpCase(f"{stem}: {title}{ordinal}",
                        meta["type"] in ("request", "request-finish"),
                        _bytes_of(match["http"]))
        _read_log(match["log"], case)
        yield case


def _bytes_of(text):
    """What llhttp's own tests make of the text between the fences."""
    text = text.removesuffix("\n")
    text = re.sub(r"\\\n", "", text)
    text = text.replace("\n", "\r\n")
    for escape, char in (("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\f", "\f")):
        text = text.replace(escape, char)
    parts = re.split(r"\\x([0-9a-fA-F]{2})", text)
    return b"".join(bytes([int(part, 16)]) if i % 2 else part.encode()
                    for i, part in enumerate(parts))


def _read_log(log, case):
    spans = {"method": "", "url": ""}
    for line in log.splitlines():
        if line.endswith("message begin"):
            spans = {"method": "", "url": ""}
            case.open = True
        elif found := re.search(r'span\[(method|url)\]="(.*)"$', line):
            spans[found[1]] += found[2]
        elif line.endswith("message complete"):
            case.messages.append((spans["method"], spans["url"]))
            case.open = False
        elif found := re.search(r"error code=(\d+)", line):
            case.error = int(found[1])
