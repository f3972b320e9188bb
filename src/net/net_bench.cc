// What one core relays: stub worker, relay and load each on a thread of their own; the time
// reported is the relay thread's CPU time, so that the other two do not count and a busy machine
// only adds noise. `items_per_second` is therefore the rate at which the relay's core would be
// full.
//   ninja -C build/release net_bench && build/release/net_bench
#include <benchmark/benchmark.h>
#include <pthread.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace pd::net {
namespace {

using namespace std::chrono_literals;

// A loop on its own thread.
class LoopThread {
 public:
  LoopThread() : thread_([this] { loop.run(); }) {}
  ~LoopThread() { loop.stop(); }
  template <typename Work>
  void run(Work work) {
    std::promise<void> done;
    loop.post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  double cpu_seconds() {
    clockid_t clock{};
    CHECK(pthread_getcpuclockid(thread_.native_handle(), &clock) == 0);
    timespec time{};
    CHECK(clock_gettime(clock, &time) == 0);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  EventLoop loop;

 private:
  std::jthread thread_;
};

HttpCall call_to(std::uint16_t port, std::string body) {
  HttpCall call;
  call.address = {"127.0.0.1", port};
  call.target = "/v1/chat/completions";
  call.headers = {{"content-type", "application/json"}, {"authorization", "Bearer 0123456789"}};
  call.body = std::move(body);
  call.connect_timeout = 10s;
  return call;
}

// Passes each request on and each byte of its response back.
void relay(HttpClient& client, std::uint16_t worker, HttpRequest request, HttpResponse response) {
  HttpCallHandlers handlers;
  handlers.on_head = [response](int status, const std::vector<Header>&) mutable {
    response.start(status, "text/event-stream");
  };
  handlers.on_data = [response](std::string_view bytes) mutable { response.write(bytes); };
  handlers.on_end = [response](Status outcome) mutable {
    outcome ? response.end() : response.abort();
  };
  client.call(call_to(worker, std::move(request.body)), std::move(handlers));
}

class Chain {
 public:
  explicit Chain(int chunks) {
    worker_.run([&] {
      worker_server_ = listen(worker_.loop, [this, chunks](HttpRequest, HttpResponse response) {
        response.start(200, "text/event-stream");
        write_chunks(response, chunks);
      });
      port_of_worker_ = worker_server_->port();
    });
    relay_.run([&] {
      client_ = std::make_unique<HttpClient>(relay_.loop);
      relay_server_ = listen(relay_.loop, [this](HttpRequest request, HttpResponse response) {
        relay(*client_, port_of_worker_, std::move(request), std::move(response));
      });
      port_of_relay_ = relay_server_->port();
    });
    load_.run([&] { load_client_ = std::make_unique<HttpClient>(load_.loop); });
  }
  ~Chain() {
    load_.run([&] { load_client_.reset(); });
    relay_.run([&] {
      relay_server_.reset();
      client_.reset();
    });
    worker_.run([&] { worker_server_.reset(); });
  }

  // `calls` calls, `at_once` of them under way; returns the relay's CPU seconds.
  double run(int calls, int at_once) {
    const double before = relay_.cpu_seconds();
    std::promise<void> done;
    int started = 0;
    int ended = 0;
    std::function<void()> start_one = [&] {
      ++started;
      load_client_->fetch(call_to(port_of_relay_, std::string(2000, 'x')),
                          [&](Result<HttpClient::Whole> whole) {
                            CHECK(whole.has_value());
                            if (++ended == calls) return done.set_value();
                            if (started < calls) start_one();
                          });
    };
    load_.loop.post([&] {
      for (int i = 0; i < at_once && i < calls; ++i) start_one();
    });
    done.get_future().wait();
    return relay_.cpu_seconds() - before;
  }

 private:
  static std::unique_ptr<HttpServer> listen(EventLoop& loop, HttpServer::Handler handler) {
    auto server = HttpServer::create(loop, {}, std::move(handler));
    CHECK(server.has_value());
    return std::move(*server);
  }
  // One chunk per millisecond and stream, as a fast decode would: none shares a system call with
  // the next.
  void write_chunks(HttpResponse response, int left) {
    static const std::string kChunk = "data: " + std::string(170, 'x') + "\n\n";
    response.write(kChunk);
    if (left <= 1) return response.end();
    worker_.loop.call_at(worker_.loop.now() + 1ms, [this, response, left]() mutable {
      write_chunks(std::move(response), left - 1);
    });
  }

  LoopThread worker_, relay_, load_;
  std::uint16_t port_of_worker_ = 0, port_of_relay_ = 0;
  std::unique_ptr<HttpServer> worker_server_, relay_server_;
  std::unique_ptr<HttpClient> client_, load_client_;
};

void bm_requests(benchmark::State& state) {
  constexpr int kCalls = 4000;
  Chain chain(/*chunks=*/1);
  chain.run(500, 32);
  for ([[maybe_unused]] auto _ : state) state.SetIterationTime(chain.run(kCalls, 32));
  state.SetItemsProcessed(state.iterations() * kCalls);
}
BENCHMARK(bm_requests)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);

void bm_chunks(benchmark::State& state) {
  constexpr int kStreams = 64;
  constexpr int kChunks = 300;
  Chain chain(kChunks);
  chain.run(kStreams, kStreams);
  for ([[maybe_unused]] auto _ : state) state.SetIterationTime(chain.run(kStreams, kStreams));
  state.SetItemsProcessed(state.iterations() * kStreams * kChunks);
}
BENCHMARK(bm_chunks)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);

double resident_bytes() {
  long pages = 0;
  long resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

// Bytes of memory per stream that has begun and waits: server and client side in one process.
void bm_idle_stream_memory(benchmark::State& state) {
  const int streams = static_cast<int>(state.range(0));
  for ([[maybe_unused]] auto _ : state) {
    EventLoop loop;
    std::vector<HttpResponse> open;
    auto server = HttpServer::create(loop, {}, [&](HttpRequest, HttpResponse response) {
      response.start(200, "text/event-stream");
      response.write("data: first\n\n");
      open.push_back(std::move(response));
    });
    CHECK(server.has_value());
    HttpClient client(loop);
    const double before = resident_bytes();
    int begun = 0;
    std::function<void()> begin_one = [&] {
      HttpCallHandlers handlers;
      handlers.on_data = [&](std::string_view) { ++begun == streams ? loop.stop() : begin_one(); };
      client.call(call_to((*server)->port(), "{}"), std::move(handlers));
    };
    begin_one();
    loop.run();
    state.counters["bytes_per_stream_both_sides"] = (resident_bytes() - before) / streams;
  }
}
BENCHMARK(bm_idle_stream_memory)->Arg(4000)->Iterations(1);

}  // namespace
}  // namespace pd::net

BENCHMARK_MAIN();
