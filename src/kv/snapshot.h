// Snapshot files (.kvm): a compressed cache with what is needed to go on from it. Versioned, checksummed, written to a
// temporary name and renamed. The format is described in docs/file-format.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kv/store.h"

namespace kvmerger::kv {

struct SnapshotInfo {
  std::string model_fingerprint;  // must match on reading
  std::string model_name;         // for messages
  std::string about;              // JSON text of the writer: spec strings, rope settings, report; not interpreted here
  std::vector<int32_t> tokens;    // the tokens the cache stands for, in order
};

// Throws Error when the file cannot be written; a file that was there before is untouched then.
void write_snapshot(const std::string& path, const SnapshotInfo& info, const Store& store);

struct Snapshot {
  SnapshotInfo info;
  Store store;
};

// Header only, checksum of the header verified: cheap.
SnapshotInfo read_snapshot_info(const std::string& path);
// Throws Error saying which: not there, not a snapshot, another version, damaged (checksum), cut short, of another
// model (both names). expected_fingerprint empty: any model.
Snapshot read_snapshot(const std::string& path, const std::string& expected_fingerprint);

}  // namespace kvmerger::kv
