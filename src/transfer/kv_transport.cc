#include "transfer/kv_transport.h"

namespace pd::transfer {

std::string_view to_string(Transport transport) {
  switch (transport) {
    case Transport::kInProcess:
      return "in-process";
    case Transport::kSharedMemory:
      return "shared memory";
    case Transport::kTcp:
      return "tcp";
    case Transport::kRdma:
      return "rdma";
  }
  return "unknown";
}

}  // namespace pd::transfer
