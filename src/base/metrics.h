// Prometheus metrics of one process. Handles are cheap to copy and thread-safe; they live as long
// as their Metrics. Names carry their unit last ("pdserve_ttft_seconds").
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace pd {

class Counter {
 public:
  void add(double amount = 1.0) const;
  double value() const;

 private:
  friend class Metrics;
  void* impl_ = nullptr;
};

class Gauge {
 public:
  void set(double value) const;
  double value() const;

 private:
  friend class Metrics;
  void* impl_ = nullptr;
};

class Histogram {
 public:
  void observe(double value) const;

 private:
  friend class Metrics;
  void* impl_ = nullptr;
};

class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;
  Metrics();
  ~Metrics();
  // The same name and labels give the same metric. `help` is kept from the first call.
  Counter counter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  Histogram histogram(const std::string& name, const std::string& help,
                      const std::vector<double>& bounds, const Labels& labels = {});
  // Prometheus text exposition format 0.0.4.
  std::string text() const;

  // The values of now. Those of several threads, each taken where its metrics change, add up to a
  // whole in which what was consistent on each stays so.
  struct Snapshot {
    std::shared_ptr<const void> families;
  };
  Snapshot snapshot() const;
  // Metrics of the same name and labels are added.
  static std::string text(const std::vector<Snapshot>& snapshots);

 private:
  struct Registry;
  std::unique_ptr<Registry> registry_;
};

}  // namespace pd
