#include "net/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "net/http_client.h"
#include "net/http_server_testing.h"
#include "net/tls_testing.h"

namespace pd::net::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::shared_ptr<const TlsServerContext> serving(const CertificateAndKey& pair) {
  auto context = TlsServerContext::create(pair.certificate, pair.key);
  EXPECT_TRUE(context.has_value()) << context.error().message;
  return context.value_or(nullptr);
}
std::shared_ptr<const TlsClientContext> trusting(const std::string& pem) {
  auto context = TlsClientContext::trusting(pem);
  EXPECT_TRUE(context.has_value()) << context.error().message;
  return context.value_or(nullptr);
}

class TlsTest : public HttpServerTest {
 protected:
  HttpCall call_here(std::string body = "{}") const {
    HttpCall call;
    call.address = {"127.0.0.1", port_, /*tls=*/true};
    call.target = "/x";
    call.body = std::move(body);
    call.read_timeout = std::chrono::seconds(10);
    return call;
  }
  Result<HttpClient::Whole> fetch(HttpCall call, std::shared_ptr<const TlsClientContext> tls) {
    return fetch_blocking(std::move(call), {.response_limits = {}, .tls = std::move(tls)});
  }
  std::string failure_with(std::shared_ptr<const TlsClientContext> tls) {
    const auto answer = fetch(call_here(), std::move(tls));
    return answer ? "it worked" : answer.error().message;
  }

  CertificateAndKey pair_ = make_certificate("IP:127.0.0.1,DNS:localhost");
};

TEST_F(TlsTest, CarriesLongBodiesBothWays) {
  serve([](HttpRequest request,
           HttpResponse response) { response.send(200, "text/plain", request.body); },
        {}, serving(pair_));
  std::string body;
  for (int i = 0; i < 1'000'000; ++i) body += std::to_string(i);
  const auto answer = fetch(call_here(body), trusting(pair_.certificate));
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_TRUE(answer->body == body);
}

TEST_F(TlsTest, KeptAliveConnectionsCarryManyCalls) {
  serve(answer_ok, {}, serving(pair_));
  EventLoop loop;
  HttpClient client(loop, {.response_limits = {}, .tls = trusting(pair_.certificate)});
  int answers = 0;
  std::function<void()> next = [&] {
    client.fetch(call_here(), [&](const Result<HttpClient::Whole>& whole) {
      ASSERT_TRUE(whole.has_value()) << whole.error().message;
      EXPECT_EQ(whole->body, "got /x {}");
      ++answers < 20 ? next() : loop.stop();
    });
  };
  next();
  loop.run();
  EXPECT_EQ(answers, 20);
  EXPECT_EQ(client.connections_opened(), 1U);
}

TEST_F(TlsTest, StreamsEachPieceAtOnce) {
  serve_and_keep({}, serving(pair_));
  EventLoop loop;
  HttpClient client(loop, {.response_limits = {}, .tls = trusting(pair_.certificate)});
  std::string got;
  bool ended = false;
  client.call(call_here(), {.on_head = {},
                            .on_data =
                                [&](std::string_view bytes) {
                                  got += bytes;
                                  loop.stop();
                                },
                            .on_end =
                                [&](const Status& end) {
                                  EXPECT_TRUE(end.has_value());
                                  ended = true;
                                  loop.stop();
                                }});
  std::jthread helper([this] {
    EXPECT_EQ(arrival(), "/x");
    on_loop([this] {
      kept_[0].start(200, "text/plain");
      kept_[0].write("first");
    });
  });
  loop.run();
  EXPECT_EQ(got, "first");  // while the rest is not made yet
  on_loop([this] {
    kept_[0].write("second");
    kept_[0].end();
  });
  while (!ended) loop.run();
  EXPECT_EQ(got, "firstsecond");
}

TEST_F(TlsTest, ACutResponseIsAFailure) {
  serve_and_keep({}, serving(pair_));
  std::jthread helper([this] {
    EXPECT_EQ(arrival(), "/x");
    on_loop([this] {
      kept_[0].start(200, "text/plain");
      kept_[0].write("first");
    });
    on_loop([this] { kept_[0].abort(); });
  });
  // Whether the reset overtakes the first bytes is the kernel's choice.
  EXPECT_THAT(failure_with(trusting(pair_.certificate)),
              ::testing::AnyOf(HasSubstr("cut short"), HasSubstr("ended before the response")));
}

TEST_F(TlsTest, AClientThatLeavesIsSeen) {
  serve_and_keep({}, serving(pair_));
  {
    EventLoop loop;
    HttpClient client(loop, {.response_limits = {}, .tls = trusting(pair_.certificate)});
    const auto id = client.call(call_here(), {});
    std::jthread helper([&] {
      EXPECT_EQ(arrival(), "/x");
      loop.stop();
    });
    loop.run();
    client.cancel(id);
  }
  EXPECT_TRUE(closes_in_time());
}

TEST_F(TlsTest, TrustsOnlyWhoIsToBeTrusted) {
  serve(answer_ok, {}, serving(pair_));
  EXPECT_THAT(failure_with(trusting(make_certificate().certificate)),
              HasSubstr("certificate refused"));
  const auto system = TlsClientContext::create();
  ASSERT_TRUE(system.has_value());
  EXPECT_THAT(failure_with(*system), HasSubstr("certificate refused"));
  const auto unchecked = TlsClientContext::unchecked();
  ASSERT_TRUE(unchecked.has_value());
  EXPECT_EQ(failure_with(*unchecked), "it worked");
  EXPECT_THAT(failure_with(nullptr), HasSubstr("no trust is configured"));
  HttpCall by_name = call_here();
  by_name.address.host = "localhost";
  EXPECT_TRUE(fetch(by_name, trusting(pair_.certificate)).has_value());
}

TEST_F(TlsTest, TheNameMustBeTheServers) {
  const CertificateAndKey other = make_certificate("DNS:example.com,IP:127.0.0.2");
  serve(answer_ok, {}, serving(other));
  EXPECT_THAT(failure_with(trusting(other.certificate)), HasSubstr("IP address mismatch"));
}

TEST_F(TlsTest, AnExpiredCertificateIsRefused) {
  const CertificateAndKey old = make_certificate("IP:127.0.0.1", -60);
  serve(answer_ok, {}, serving(old));
  EXPECT_THAT(failure_with(trusting(old.certificate)), HasSubstr("expired"));
}

TEST_F(TlsTest, PlainHttpIsToldToUseHttps) {
  serve(answer_ok, {}, serving(pair_));
  const std::string answer = answer_to(port_, kGet);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer, HasSubstr("use https://"));
}

TEST_F(TlsTest, APlainServerIsNoTlsServer) {
  serve(answer_ok);
  EXPECT_THAT(failure_with(trusting(pair_.certificate)), HasSubstr("no TLS with"));
}

TEST_F(TlsTest, GarbageAndSilenceEndTheConnection) {
  HttpLimits limits;
  limits.header_timeout = std::chrono::milliseconds(50);
  serve(answer_ok, limits, serving(pair_));
  answer_to(port_, std::string(3000, '\x16'));  // ends, whatever it says
  RawSocket silent = RawSocket::to(port_);
  EXPECT_EQ(silent.read_to_end(), "");
  RawSocket half = RawSocket::to(port_);
  half.send(std::string("\x16\x03\x01\x02\x00", 5));  // announces a record that does not come
  half.read_to_end();
  EXPECT_EQ(failure_with(trusting(pair_.certificate)), "it worked");
}

TEST_F(TlsTest, ARenewedCertificateIsForThoseWhoComeLater) {
  serve_and_keep({}, serving(pair_));
  const CertificateAndKey renewed = make_certificate();
  EventLoop loop;
  HttpClient client(loop, {.response_limits = {}, .tls = trusting(pair_.certificate)});
  std::string got;
  client.fetch(call_here(), [&](const Result<HttpClient::Whole>& whole) {
    ASSERT_TRUE(whole.has_value()) << whole.error().message;
    got = whole->body;
    loop.stop();
  });
  std::jthread helper([&, this] {
    EXPECT_EQ(arrival(), "/x");
    on_loop([&, this] { server_->use_tls(serving(renewed)); });
    std::jthread answering([this] {
      EXPECT_EQ(arrival(), "/x");
      on_loop([this] { kept_[1].send(200, "text/plain", "new"); });
    });
    EXPECT_EQ(failure_with(trusting(renewed.certificate)), "it worked");
    on_loop([this] { kept_[0].send(200, "text/plain", "old"); });
  });
  loop.run();
  EXPECT_EQ(got, "old");
  EXPECT_THAT(failure_with(trusting(pair_.certificate)), HasSubstr("certificate refused"));
}

TEST(TlsServerContext, SaysWhatIsWrongWithItsFiles) {
  const CertificateAndKey a = make_certificate(), b = make_certificate();
  const auto message = [](std::string_view certificate, std::string_view key) {
    const auto made = TlsServerContext::create(certificate, key);
    return made ? "it worked" : made.error().message;
  };
  EXPECT_EQ(message(a.certificate, a.key), "it worked");
  EXPECT_EQ(message(a.certificate + b.certificate, a.key), "it worked");  // a chain
  EXPECT_THAT(message(a.certificate, b.key), HasSubstr("does not belong"));
  EXPECT_THAT(message("", a.key), HasSubstr("no certificate"));
  EXPECT_THAT(message(a.key, a.certificate), HasSubstr("no certificate"));
  EXPECT_THAT(message(a.certificate, "nonsense"), HasSubstr("no key"));
  const std::string cut = a.certificate + b.certificate.substr(0, b.certificate.size() / 2);
  EXPECT_THAT(message(cut, a.key), HasSubstr("certificate 2"));
}

TEST(TlsServerContext, KnowsWhenItEnds) {
  const auto made = serving(make_certificate("IP:127.0.0.1", 1000));
  EXPECT_NEAR(static_cast<double>(made->not_after() - std::time(nullptr)), 1000, 100);
}

TEST(ParseUrl, TakesWhatUsersWrite) {
  const auto is = [](std::string_view text) {
    const auto url = parse_url(text);
    if (!url) return std::string("refused");
    return std::string(url->address.tls ? "https " : "http ") + to_string(url->address) + " " +
           url->path;
  };
  EXPECT_EQ(is("http://127.0.0.1:8000"), "http 127.0.0.1:8000 ");
  EXPECT_EQ(is("127.0.0.1:8000"), "http 127.0.0.1:8000 ");
  EXPECT_EQ(is("https://api.example.com/v1/"), "https api.example.com:443 /v1");
  EXPECT_EQ(is("HTTP://localhost/"), "http localhost:80 ");
  EXPECT_EQ(is("https://[::1]:8443/a/b"), "https [::1]:8443 /a/b");
  EXPECT_EQ(is("https://[::1]"), "https [::1]:443 ");
  for (const char* bad : {"", "localhost", "ftp://x:1", "http://", "http://x:0", "http://x:70000",
                          "http://a b", "http://x/?q", "http://u@x", "https:///v1"})
    EXPECT_EQ(is(bad), "refused") << bad;
}

}  // namespace
}  // namespace pd::net::testing
