#include "net/http_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/rng.h"

namespace pd::net {
namespace {

constexpr const char* kHost = "Host: a\r\n";

// Everything a parser tells about a stream of requests: what a test compares.
struct Requests {
  std::vector<HttpRequest> requests;
  int status = 0;  // of the refusal, 0: none
  std::string message;
  bool unfinished = false;  // ended inside a request
};

Requests parse_requests(std::string_view bytes, std::size_t piece_bytes, const HttpLimits& limits) {
  RequestParser parser(limits);
  Requests out;
  while (!bytes.empty()) {
    std::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    while (!piece.empty()) {
      piece.remove_prefix(parser.feed(piece));
      if (parser.state() == RequestParser::State::kComplete) out.requests.push_back(parser.take());
      if (parser.state() == RequestParser::State::kFailed) {
        out.status = parser.problem().status;
        out.message = parser.problem().message;
        return out;
      }
    }
  }
  out.unfinished = parser.state() != RequestParser::State::kIdle;
  return out;
}

Requests parse_all(std::string_view bytes, const HttpLimits& limits = {}) {
  return parse_requests(bytes, bytes.size(), limits);
}

HttpRequest parse_one(std::string_view bytes) {
  Requests parsed = parse_all(bytes);
  EXPECT_EQ(parsed.status, 0) << parsed.message;
  EXPECT_EQ(parsed.requests.size(), 1u);
  EXPECT_FALSE(parsed.unfinished);
  return parsed.requests.empty() ? HttpRequest{} : parsed.requests.front();
}

int refusal(std::string_view bytes) { return parse_all(bytes).status; }

std::string with_fields(std::string_view fields) {
  return std::string("POST / HTTP/1.1\r\n") + kHost + std::string(fields) + "\r\n";
}

TEST(RequestParser, ReadsAPostWithItsBody) {
  const HttpRequest request = parse_one(
      "POST /v1/chat?x=1 HTTP/1.1\r\nHOST: a:8000\r\nX-Two:  b c \t\r\nContent-Length: "
      "5\r\n\r\nhello");
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/v1/chat?x=1");
  EXPECT_EQ(request.path(), "/v1/chat");
  EXPECT_EQ(request.header("x-two"), "b c");
  EXPECT_EQ(request.header("host"), "a:8000");
  EXPECT_EQ(request.header("absent"), "");
  EXPECT_EQ(request.body, "hello");
}

TEST(RequestParser, ReadsChunksAndDropsExtensionsAndTrailers) {
  const HttpRequest request = parse_one(with_fields("Transfer-Encoding: Chunked\r\n") +
                                        "5;a=b;c=\"d \\\" e\"\r\nhello\r\n00A\r\n, you lot.\r\n"
                                        "000;last\r\nTrailer: x\r\n\r\n");
  EXPECT_EQ(request.body, "hello, you lot.");
  EXPECT_EQ(request.header("trailer"), "");
}

TEST(RequestParser, LeavesPipelinedBytesForTheNextRequest) {
  const std::string get = std::string("GET /1 HTTP/1.1\r\n") + kHost + "\r\n";
  const std::string two = get + "\r\n" + with_fields("Content-Length: 2\r\n") + "ok" + get;
  HttpLimits limits;
  RequestParser parser(limits);
  EXPECT_EQ(parser.feed(two), get.size());
  ASSERT_EQ(parser.state(), RequestParser::State::kComplete);
  EXPECT_EQ(parse_all(two).requests.size(), 3u);
}

TEST(RequestParser, KeepsAliveByVersionAndConnectionHeader) {
  const auto keeps = [](std::string_view version, std::string_view field) {
    HttpLimits limits;
    RequestParser parser(limits);
    parser.feed("GET / HTTP/" + std::string(version) + "\r\nHost: a\r\n" + std::string(field) +
                "\r\n");
    EXPECT_EQ(parser.state(), RequestParser::State::kComplete);
    return parser.keep_alive();
  };
  EXPECT_TRUE(keeps("1.1", ""));
  EXPECT_FALSE(keeps("1.1", "Connection: foo, Close\r\n"));
  EXPECT_FALSE(keeps("1.0", ""));
  EXPECT_TRUE(keeps("1.0", "Connection: Keep-Alive\r\n"));
  EXPECT_FALSE(keeps("1.1", "Connection: keep-alive, close\r\n"));
}

TEST(RequestParser, ReducesAnAbsoluteTargetAndItsHostReplacesTheHeader) {
  const HttpRequest request = parse_one("GET http://b:1/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(request.target, "/x?y");
  EXPECT_EQ(request.header("host"), "b:1");
  EXPECT_EQ(parse_one("GET HTTP://b HTTP/1.1\r\nHost: a\r\n\r\n").target, "/");
  EXPECT_EQ(parse_one("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target, "*");
}

TEST(RequestParser, AsksForContinueOnceAndOnlyWithABody) {
  HttpLimits limits;
  RequestParser parser(limits);
  parser.feed(with_fields("Expect: 100-Continue\r\nContent-Length: 1\r\n"));
  EXPECT_EQ(parser.state(), RequestParser::State::kBody);
  EXPECT_TRUE(parser.take_expect_continue());
  EXPECT_FALSE(parser.take_expect_continue());
  RequestParser without_body(limits);
  without_body.feed(with_fields("Expect: 100-continue\r\n"));
  EXPECT_FALSE(without_body.take_expect_continue());
  EXPECT_EQ(refusal(with_fields("Expect: 200-maybe\r\n")), 417);
}

TEST(RequestParser, ToleratesEmptyLinesBeforeARequestWithinTheHeadLimit) {
  EXPECT_EQ(parse_one("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").target, "/");
  std::string endless;
  for (int i = 0; i < 40000; ++i) endless += "\r\n";
  EXPECT_EQ(refusal(endless), 431);
}

struct Refused {
  const char* why;
  std::string bytes;
  int status;
};

TEST(RequestParser, RefusesWhatParsersCouldReadDifferently) {
  const std::string nul(1, '\0');
  const std::vector<Refused> cases = {
      {"bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
      {"bare CR in a value", with_fields("X: a\rb\r\n"), 400},
      {"CR CR LF", with_fields("X: a\r\r\n"), 400},
      {"folded line", with_fields("X: a\r\n b\r\n"), 400},
      {"white space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"space before colon", with_fields("X : a\r\n"), 400},
      {"empty name", with_fields(": a\r\n"), 400},
      {"no colon", with_fields("X\r\n"), 400},
      {"NUL in a value", with_fields("X: a" + nul + "\r\n"), 400},
      {"control character in a value", with_fields("X: a\x01\r\n"), 400},
      {"DEL in a value", with_fields("X: a\x7F\r\n"), 400},
      {"control character in a name", with_fields("X\x01: a\r\n"), 400},
      {"both lengths", with_fields("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"both, other order", with_fields("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
       400},
      {"two lengths", with_fields("Content-Length: 1\r\nContent-Length: 2\r\n"), 400},
      {"two equal lengths", with_fields("Content-Length: 1\r\nContent-Length: 1\r\n"), 400},
      {"list of lengths", with_fields("Content-Length: 1, 1\r\n"), 400},
      {"plus", with_fields("Content-Length: +5\r\n"), 400},
      {"minus", with_fields("Content-Length: -1\r\n"), 400},
      {"hexadecimal", with_fields("Content-Length: 0x5\r\n"), 400},
      {"inner space", with_fields("Content-Length: 4 2\r\n"), 400},
      {"empty length", with_fields("Content-Length:\r\n"), 400},
      {"overflow", with_fields("Content-Length: 18446744073709551617\r\n"), 400},
      {"2^63", with_fields("Content-Length: 9223372036854775808\r\n"), 400},
      {"identity", with_fields("Transfer-Encoding: identity\r\n"), 400},
      {"gzip, chunked", with_fields("Transfer-Encoding: gzip, chunked\r\n"), 501},
      {"chunked, gzip", with_fields("Transfer-Encoding: chunked, gzip\r\n"), 400},
      {"xchunked", with_fields("Transfer-Encoding: xchunked\r\n"), 400},
      {"chunked twice", with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
       400},
      {"empty coding", with_fields("Transfer-Encoding:\r\n"), 400},
      {"chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"no host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
      {"malformed method", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"endless method", std::string(33, 'G') + " / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
      {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"tab in the request line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"raw UTF-8 in the target", "GET /\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"target without slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"user and password in the target", "GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"HTTP/0.9", "GET /\r\n", 400},
      {"lower-case protocol", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
      {"TLS", "\x16\x03\x01\x02", 400},
      {"binary", "\x80\x81", 400},
  };
  for (const Refused& refused : cases) {
    EXPECT_EQ(refusal(refused.bytes), refused.status) << refused.why;
  }
}

TEST(RequestParser, RefusesMalformedChunks) {
  const auto chunked = [](const std::string& body) {
    return refusal(with_fields("Transfer-Encoding: chunked\r\n") + body);
  };
  const std::string long_extension = "1;" + std::string(2000, 'a') + "\r\n";
  std::string many_extensions;
  for (int i = 0; i < 40; ++i) many_extensions += "1;" + std::string(900, 'a') + "\r\nx\r\n";
  for (const std::string& body :
       std::vector<std::string>{"\r\n",
                                "+5\r\nhello\r\n",
                                "0x5\r\n",
                                "-1\r\n",
                                "5 \r\nhello\r\n",
                                " 5\r\nhello\r\n",
                                "g\r\n",
                                "10000000000000000\r\n",
                                "8000000000000000\r\n",
                                "5\nhello\r\n",
                                "5\r\nhello\n",
                                "5\r\nhelloo\r\n",
                                "5\r\nhelloXY\r\n",
                                "5;\r\nhello\r\n",
                                "5; a\r\nhello\r\n",
                                "5;a=\r\nhello\r\n",
                                "5;a=\"b\r\nhello\r\n",
                                "5;a=\"b\"c\r\n",
                                "5,a\r\n",
                                long_extension,
                                many_extensions,
                                "0\r\nbad trailer\r\n\r\n",
                                "0\r\n folded\r\n\r\n",
                                "0\r\nx: " + std::string(20000, 'a') + "\r\n\r\n"}) {
    EXPECT_EQ(chunked(body), 400) << body.substr(0, 40);
  }
}

TEST(RequestParser, KeepsItsLimits) {
  HttpLimits limits;
  limits.header_bytes_max = Bytes(200);
  limits.headers_max = 3;
  limits.body_bytes_max = Bytes(10);
  const auto status = [&limits](const std::string& bytes) {
    return parse_all(bytes, limits).status;
  };
  EXPECT_EQ(status(with_fields("A: 1\r\nContent-Length: 10\r\n") + "0123456789"), 0);
  EXPECT_EQ(status(with_fields("A: 1\r\nB: 2\r\nC: 3\r\n")), 431);
  EXPECT_EQ(status(with_fields("A: " + std::string(200, 'a') + "\r\n")), 431);
  EXPECT_EQ(status("GET /" + std::string(300, 'a')), 431);  // without waiting for the line's end
  EXPECT_EQ(status(with_fields("Content-Length: 11\r\n")), 413);
  EXPECT_EQ(status(with_fields("Content-Length: 9000000000000000000\r\n")), 413);
  EXPECT_EQ(status(with_fields("Transfer-Encoding: chunked\r\n") + "6\r\n012345\r\n5\r\n01234\r\n"),
            413);
  // A chunk's size alone is enough, as a Content-Length is.
  EXPECT_EQ(status(with_fields("Transfer-Encoding: chunked\r\n") + "b\r\n"), 413);
  EXPECT_EQ(status(with_fields("Transfer-Encoding: chunked\r\n") + "6\r\n012345\r\n5\r\n"), 413);
}

TEST(RequestParser, BodiesAreNotCompressed) {
  const auto status = [](const std::string& coding) {
    return parse_all(with_fields("Content-Encoding: " + coding + "\r\n"), {}).status;
  };
  EXPECT_EQ(status("gzip"), 415);
  EXPECT_EQ(status("identity, br"), 415);
  EXPECT_EQ(status("Identity"), 0);
}

// --- properties ----------------------------------------------------------------------------------

// Streams that are near to right: valid requests with some bytes changed, doubled or lost.
std::string random_stream(Rng& rng) {
  static const std::vector<std::string> kPieces = {
      "GET / HTTP/1.1\r\n",
      "POST /x HTTP/1.1\r\n",
      "Host: a\r\n",
      "X: y z\r\n",
      "Content-Length: 3\r\n",
      "Transfer-Encoding: chunked\r\n",
      "\r\n",
      "abc",
      "3\r\nabc\r\n",
      "0\r\n\r\n",
      "1;e=f\r\nq\r\n",
      "Connection: close\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"};
  std::string out;
  const auto pieces = 1 + rng.below(8);
  for (std::uint64_t i = 0; i < pieces; ++i) out += kPieces[rng.below(kPieces.size())];
  const auto changes = rng.below(3);
  for (std::uint64_t i = 0; i < changes && !out.empty(); ++i) {
    const auto at = static_cast<std::size_t>(rng.below(out.size()));
    switch (rng.below(3)) {
      case 0:
        out[at] = static_cast<char>(rng.below(256));
        break;
      case 1:
        out.erase(at, 1);
        break;
      default:
        out.insert(at, 1, "\r\n :;0"[rng.below(6)]);
        break;
    }
  }
  return out;
}

bool same(const Requests& a, const Requests& b) {
  if (a.requests.size() != b.requests.size() || a.status != b.status || a.message != b.message ||
      a.unfinished != b.unfinished) {
    return false;
  }
  for (std::size_t i = 0; i < a.requests.size(); ++i) {
    const HttpRequest& x = a.requests[i];
    const HttpRequest& y = b.requests[i];
    if (x.method != y.method || x.target != y.target || x.headers != y.headers ||
        x.body != y.body) {
      return false;
    }
  }
  return true;
}

TEST(RequestParser, OneLongFeedEqualsByteByByteFeed) {
  Rng rng(7);
  HttpLimits limits;
  limits.header_bytes_max = Bytes(90);
  limits.headers_max = 4;
  limits.body_bytes_max = Bytes(6);
  int complete = 0;
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::string stream = random_stream(rng);
    const Requests whole = parse_requests(stream, stream.size(), limits);
    const Requests bytewise = parse_requests(stream, 1, limits);
    const Requests pieces = parse_requests(stream, 1 + rng.below(20), limits);
    ASSERT_TRUE(same(whole, bytewise)) << stream;
    ASSERT_TRUE(same(whole, pieces)) << stream;
    complete += static_cast<int>(whole.requests.size());
    refused += whole.status != 0;
  }
  EXPECT_GT(complete, 3000);  // the streams exercise both outcomes
  EXPECT_GT(refused, 3000);
}

// --- responses -----------------------------------------------------------------------------------

struct Response {
  int status = 0;
  std::string body;
  bool complete = false;
  bool keep_alive = false;
  std::string problem;
  std::size_t left = 0;  // bytes behind the response
};

Response parse_response(std::string_view bytes, std::size_t piece_bytes, bool head_request,
                        bool closed) {
  HttpLimits limits;
  ResponseParser parser(limits, head_request);
  using Event = ResponseParser::Event;
  Response out;
  Event event = Event::kMore;
  while (!bytes.empty() && event == Event::kMore) {
    std::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    do {
      event = parser.next(piece);
      if (event == Event::kHead) out.status = parser.status();
      if (event == Event::kData) out.body += parser.data();
    } while (event == Event::kHead || event == Event::kData);
    out.left = piece.size() + bytes.size();
  }
  if (event == Event::kMore && closed) event = parser.finish();
  out.complete = event == Event::kEnd;
  out.keep_alive = parser.keep_alive();
  if (event == Event::kFailed) out.problem = parser.problem().message;
  return out;
}

Response parse_response(std::string_view bytes, bool closed = true) {
  return parse_response(bytes, bytes.size(), /*head_request=*/false, closed);
}

TEST(ResponseParser, ReadsAllThreeKindsOfLength) {
  const Response fixed =
      parse_response("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP", /*closed=*/false);
  EXPECT_TRUE(fixed.complete);
  EXPECT_EQ(fixed.body, "abc");
  EXPECT_EQ(fixed.left, 4u);
  EXPECT_TRUE(fixed.keep_alive);
  const Response chunked = parse_response(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n03\r\nabc\r\n00\r\n\r\n", false);
  EXPECT_TRUE(chunked.complete);
  EXPECT_EQ(chunked.body, "abc");
  const Response until_close = parse_response("HTTP/1.1 200\r\n\r\nabc");
  EXPECT_TRUE(until_close.complete);
  EXPECT_EQ(until_close.body, "abc");
  EXPECT_FALSE(until_close.keep_alive);
}

TEST(ResponseParser, KnowsWhichResponsesHaveNoBody) {
  EXPECT_TRUE(parse_response("HTTP/1.1 204 No Content\r\n\r\n", false).complete);
  EXPECT_TRUE(
      parse_response("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false).complete);
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
  EXPECT_TRUE(parse_response(head, head.size(), /*head_request=*/true, false).complete);
}

TEST(ResponseParser, SkipsInterimResponses) {
  const Response response = parse_response(
      "HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.complete);
}

TEST(ResponseParser, NoticesWhatIsCutShort) {
  EXPECT_EQ(parse_response("").complete, false);
  EXPECT_EQ(parse_response("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").problem,
            "the response was cut short");
  EXPECT_EQ(
      parse_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").problem,
      "the response was cut short");
}

TEST(ResponseParser, RefusesWhatIsNotHttp) {
  for (const char* bytes :
       {"HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n", "HTTP/1.1 600 X\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 O\x01K\r\n\r\n"}) {
    EXPECT_NE(parse_response(bytes, false).problem, "") << bytes;
  }
}

TEST(ResponseParser, OneLongFeedEqualsByteByByteFeed) {
  Rng rng(11);
  static const std::vector<std::string> kPieces = {"HTTP/1.1 200 OK\r\n",
                                                   "HTTP/1.1 100 Continue\r\n\r\n",
                                                   "HTTP/1.0 500\r\n",
                                                   "HTTP/1.1 204 x\r\n",
                                                   "X: y\r\n",
                                                   "Content-Length: 4\r\n",
                                                   "\r\n",
                                                   "Transfer-Encoding: chunked\r\n",
                                                   "4\r\nabcd\r\n",
                                                   "0\r\n\r\n",
                                                   "abcd"};
  int complete = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string stream = rng.below(4) == 0 ? "" : "HTTP/1.1 200 OK\r\n";
    const auto pieces = 1 + rng.below(6);
    for (std::uint64_t i = 0; i < pieces; ++i) stream += kPieces[rng.below(kPieces.size())];
    if (rng.below(3) == 0) {
      stream[static_cast<std::size_t>(rng.below(stream.size()))] =
          static_cast<char>(rng.below(256));
    }
    const bool head_request = rng.below(8) == 0;
    const bool closed = rng.below(2) == 0;
    const Response whole = parse_response(stream, stream.size(), head_request, closed);
    const Response bytewise = parse_response(stream, 1, head_request, closed);
    ASSERT_EQ(whole.status, bytewise.status) << stream;
    ASSERT_EQ(whole.body, bytewise.body) << stream;
    ASSERT_EQ(whole.complete, bytewise.complete) << stream;
    ASSERT_EQ(whole.keep_alive, bytewise.keep_alive) << stream;
    ASSERT_EQ(whole.problem, bytewise.problem) << stream;
    if (whole.complete) {
      ASSERT_EQ(whole.left, bytewise.left) << stream;
    }
    complete += whole.complete;
  }
  EXPECT_GT(complete, 800);
}

}  // namespace
}  // namespace pd::net
