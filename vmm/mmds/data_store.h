// SPDX-License-Identifier: Apache-2.0
//
// The metadata store (MMDS): one JSON document that a client puts in and the guest reads.
//
// Threads: the loop's. The document comes from a client, the paths it is asked for come from the guest.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/record.h"
#include "base/result.h"
#include "vmm/config/value.h"

namespace wisp::mmds {

class DataStore {
public:
    /// `limit`: bytes of the document as compact JSON.
    explicit DataStore(size_t limit) : limit_(limit) {}

    /// Replaces the document. An error with errno EFBIG if it is over the limit.
    Result<void> put(config::Value data);

    /// Merges into the document as RFC 7396 says: null removes, objects merge, all else replaces. Fails before the
    /// first put().
    Result<void> patch(config::Value patch);

    /// The document, keys sorted; `{}` before the first put().
    std::string to_json() const;

    /// What stands at a JSON pointer made of a URL path ("/latest/meta-data/"), or nothing. The empty path is the
    /// whole. A number in the path is the index of an array.
    const config::Value* find(std::string_view path) const;

    static constexpr RecordType kRecord{"mmds", "mmds_data", 1, Need::kRequired};
    /// The content of a leaf of type kRecord. restore() replaces the document and keeps to the limit of this store.
    void save(RecordWriter& writer) const;
    Result<void> restore(RecordReader& reader);

private:
    Result<void> check_size(const config::Value& data) const;

    const size_t limit_;
    std::optional<config::Value> data_;
};

/// A value as EC2's metadata service shows it: a string as it is, an object as the list of its keys, those with objects
/// below them with a slash. Nothing if it cannot be shown so.
std::optional<std::string> to_imds_text(const config::Value& value);

}  // namespace wisp::mmds
