#include "base/metrics.h"

#include <gtest/gtest.h>

namespace pd {
namespace {

TEST(Metrics, SameNameAndLabelsAreOneMetric) {
  Metrics metrics;
  metrics.counter("pdserve_x_total", "x", {{"role", "prefill"}}).add();
  metrics.counter("pdserve_x_total", "x", {{"role", "prefill"}}).add(2);
  metrics.counter("pdserve_x_total", "x", {{"role", "decode"}}).add(5);
  metrics.gauge("pdserve_y", "y").set(4);
  metrics.histogram("pdserve_z_seconds", "z", {0.1, 1.0}).observe(0.5);
  const std::string text = metrics.text();
  EXPECT_NE(text.find("pdserve_x_total{role=\"prefill\"} 3"), std::string::npos) << text;
  EXPECT_NE(text.find("pdserve_x_total{role=\"decode\"} 5"), std::string::npos) << text;
  EXPECT_NE(text.find("pdserve_y 4"), std::string::npos) << text;
  EXPECT_NE(text.find("pdserve_z_seconds_bucket{le=\"1\"} 1"), std::string::npos) << text;
}

TEST(Metrics, SnapshotsAddUp) {
  Metrics one, two;
  for (Metrics* metrics : {&one, &two}) {
    metrics->counter("pdserve_x_total", "x", {{"role", "prefill"}}).add(3);
    metrics->gauge("pdserve_y", "y").set(4);
    metrics->histogram("pdserve_z_seconds", "z", {0.1, 1.0}).observe(0.5);
  }
  two.counter("pdserve_x_total", "x", {{"role", "decode"}}).add(5);
  two.counter("pdserve_only_total", "only").add(7);
  const auto before = two.snapshot();
  two.gauge("pdserve_y", "y").set(1000);
  const std::string text = Metrics::text({one.snapshot(), before});
  for (const char* line :
       {"pdserve_x_total{role=\"prefill\"} 6\n", "pdserve_x_total{role=\"decode\"} 5\n",
        "pdserve_y 8\n", "pdserve_only_total 7\n", "pdserve_z_seconds_bucket{le=\"1\"} 2\n",
        "pdserve_z_seconds_bucket{le=\"0.1\"} 0\n", "pdserve_z_seconds_count 2\n",
        "pdserve_z_seconds_sum 1\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
}

}  // namespace
}  // namespace pd
