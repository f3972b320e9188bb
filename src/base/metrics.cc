#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>

namespace pd {

namespace {

using Families = std::vector<prometheus::MetricFamily>;

// To the one with the same labels, or as a new one.
void add(std::vector<prometheus::ClientMetric>& to, const prometheus::ClientMetric& metric) {
  const auto same = std::ranges::find(to, metric.label, &prometheus::ClientMetric::label);
  if (same == to.end()) return to.push_back(metric);
  same->counter.value += metric.counter.value;
  same->gauge.value += metric.gauge.value;
  same->histogram.sample_count += metric.histogram.sample_count;
  same->histogram.sample_sum += metric.histogram.sample_sum;
  const std::size_t buckets =
      std::min(same->histogram.bucket.size(), metric.histogram.bucket.size());
  for (std::size_t i = 0; i < buckets; ++i)
    same->histogram.bucket[i].cumulative_count += metric.histogram.bucket[i].cumulative_count;
}

}  // namespace

struct Metrics::Registry {
  prometheus::Registry impl{prometheus::Registry::InsertBehavior::Merge};
};

void Counter::add(double amount) const {
  static_cast<prometheus::Counter*>(impl_)->Increment(amount);
}
double Counter::value() const { return static_cast<prometheus::Counter*>(impl_)->Value(); }
void Gauge::set(double value) const { static_cast<prometheus::Gauge*>(impl_)->Set(value); }
double Gauge::value() const { return static_cast<prometheus::Gauge*>(impl_)->Value(); }
void Histogram::observe(double value) const {
  static_cast<prometheus::Histogram*>(impl_)->Observe(value);
}

Metrics::Metrics() : registry_(std::make_unique<Registry>()) {}
Metrics::~Metrics() = default;

Counter Metrics::counter(const std::string& name, const std::string& help, const Labels& labels) {
  Counter out;
  out.impl_ =
      &prometheus::BuildCounter().Name(name).Help(help).Register(registry_->impl).Add(labels);
  return out;
}

Gauge Metrics::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  Gauge out;
  out.impl_ = &prometheus::BuildGauge().Name(name).Help(help).Register(registry_->impl).Add(labels);
  return out;
}

Histogram Metrics::histogram(const std::string& name, const std::string& help,
                             const std::vector<double>& bounds, const Labels& labels) {
  Histogram out;
  out.impl_ = &prometheus::BuildHistogram()
                   .Name(name)
                   .Help(help)
                   .Register(registry_->impl)
                   .Add(labels, bounds);
  return out;
}

std::string Metrics::text() const { return text({snapshot()}); }

Metrics::Snapshot Metrics::snapshot() const {
  return {std::make_shared<const Families>(registry_->impl.Collect())};
}

std::string Metrics::text(const std::vector<Snapshot>& snapshots) {
  Families all;
  for (const Snapshot& snapshot : snapshots) {
    for (const auto& family : *static_cast<const Families*>(snapshot.families.get())) {
      const auto same = std::ranges::find(all, family.name, &prometheus::MetricFamily::name);
      if (same == all.end()) {
        all.push_back(family);
        continue;
      }
      for (const auto& metric : family.metric) add(same->metric, metric);
    }
  }
  return prometheus::TextSerializer().Serialize(all);
}

}  // namespace pd
