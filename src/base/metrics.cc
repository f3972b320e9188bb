#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace pd {

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

std::string Metrics::text() const {
  return prometheus::TextSerializer().Serialize(registry_->impl.Collect());
}

}  // namespace pd
