#include "protocol/control_messages.h"

#include "protocol/json_fields.h"

namespace pd::protocol {

namespace {

constexpr std::size_t kPeersMax = 10'000;

}  // namespace

std::string to_json(const Registration& m) {
  return Json{{"id", m.id.value()},
              {"boot", to_hex(m.boot.value())},
              {"address", m.address},
              {"transport", bytes_to_hex(m.transport)}}
      .dump();
}

Result<Registration> parse_registration(std::string_view text) {
  const Json json = parse_quietly(text);
  JsonFields in(json);
  Registration m;
  m.id = WorkerId(in.natural<std::uint64_t>("id"));
  m.boot = BootId(in.hex("boot"));
  m.address = in.text("address");
  m.transport = in.bytes("transport");
  return in.finish(std::move(m), "registration");
}

std::string to_json(const Assignment& m) {
  Json peers = Json::array();
  for (const PeerInfo& peer : m.peers) {
    peers.push_back(
        {{"boot", to_hex(peer.boot.value())}, {"transport", bytes_to_hex(peer.transport)}});
  }
  return Json{{"role", to_string(m.role)}, {"fence", m.fence}, {"peers", std::move(peers)}}.dump();
}

Result<Assignment> parse_assignment(std::string_view text) {
  const Json json = parse_quietly(text);
  JsonFields in(json);
  Assignment m;
  m.role = in.role("role");
  m.fence = in.natural<std::uint64_t>("fence");
  for (const Json& item : in.list("peers", kPeersMax)) {
    JsonFields peer(item);
    m.peers.push_back({BootId(peer.hex("boot")), peer.bytes("transport")});
    in.adopt(peer);
  }
  return in.finish(std::move(m), "assignment");
}

std::string to_json(const WorkerStatus& m) {
  return Json{{"id", m.id.value()},
              {"boot", to_hex(m.boot.value())},
              {"role", to_string(m.role)},
              {"load_fraction", m.load_fraction},
              {"loaded", m.loaded},
              {"ready", m.ready},
              {"draining", m.draining},
              {"trouble", m.trouble},
              {"fatal", m.fatal},
              {"layout_hash", to_hex(m.layout_hash)},
              {"slots", m.slots},
              {"batch_places", m.batch_places},
              {"slots_used", m.slots_used},
              {"requests", m.requests},
              {"blocks_total", m.blocks_total},
              {"blocks_used", m.blocks_used},
              {"block_tokens", m.block_tokens},
              {"steps", m.steps}}
      .dump();
}

Result<WorkerStatus> parse_worker_status(std::string_view text) {
  const Json json = parse_quietly(text);
  JsonFields in(json);
  WorkerStatus m;
  m.id = WorkerId(in.natural<std::uint64_t>("id"));
  m.boot = BootId(in.hex("boot"));
  m.role = in.role("role");
  m.load_fraction = in.number("load_fraction");
  m.loaded = in.boolean("loaded");
  m.ready = in.boolean("ready");
  m.draining = in.boolean("draining");
  m.trouble = in.text("trouble");
  m.fatal = in.boolean("fatal");
  m.layout_hash = in.hex("layout_hash");
  m.slots = in.natural<int>("slots");
  m.batch_places = in.natural<int>("batch_places");
  m.slots_used = in.natural<int>("slots_used");
  m.requests = in.natural<int>("requests");
  m.blocks_total = in.natural<std::int64_t>("blocks_total");
  m.blocks_used = in.natural<std::int64_t>("blocks_used");
  m.block_tokens = in.natural<std::int64_t>("block_tokens");
  m.steps = in.natural<std::uint64_t>("steps");
  return in.finish(std::move(m), "worker status");
}

}  // namespace pd::protocol
