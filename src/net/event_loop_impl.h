// The one header of net that includes Asio; event_loop.cc, fd_watch.cc and resolver.cc include it.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <optional>

#include "net/event_loop.h"
#include "net/timer_queue.h"

namespace pd::net {

struct EventLoop::Impl {
  // 1: one thread runs it; posting from others stays safe.
  boost::asio::io_context context{1};
  // Without work the context would stop by itself, between two runs too.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> never_idle{
      context.get_executor()};
  boost::asio::steady_timer timer{context};
  TimerQueue timers;
  std::optional<Time> armed_for;  // when `timer` is set to fire
  std::list<boost::asio::signal_set> signals;

  void arm();
  void run_due();
};

}  // namespace pd::net
