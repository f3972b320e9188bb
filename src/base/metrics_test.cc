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

}  // namespace
}  // namespace pd
