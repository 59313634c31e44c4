// SPDX-License-Identifier: Apache-2.0
//
// DataStore: the metadata (MMDS), one JSON document that a client writes and the guest reads.
//
// Threads: put(), patch() and to_json() belong to the control thread; document() may be called from any thread. A
// document never changes: a write publishes another one. The mutex is held to copy or to exchange a pointer.
//
// The document comes from a client, and the paths that it is asked for come from the guest.
#pragma once

#include <memory>
#include <mutex>
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
    /// first put(), and with EFBIG where the result is over the limit. Its work is linear in both documents.
    Result<void> patch(config::Value patch);

    /// The document, keys sorted; `{}` before the first put().
    std::string to_json() const;

    /// The document; nullptr before the first put().
    std::shared_ptr<const config::Value> document() const;

    static constexpr RecordType kRecord{"mmds", "mmds_data", 1, Need::kRequired};
    /// The content of a leaf of type kRecord. restore() replaces the document and keeps to the limit of this store.
    void save(RecordWriter& writer) const;
    Result<void> restore(RecordReader& reader);

private:
    Result<void> publish(config::Value data);

    const size_t limit_;
    mutable std::mutex mutex_;
    std::shared_ptr<const config::Value> document_;
};

/// The value at a JSON pointer (RFC 6901) made of a URL path, or nullptr. As Firecracker has it, empty segments do not
/// count ("//a/" is "/a"), and the empty path is the whole document.
const config::Value* find(const config::Value& document, std::string_view path);

/// A value as EC2's metadata service shows it: a string as it is, an object as the list of its keys, those with objects
/// below them with a slash. Nothing if it cannot be shown so.
std::optional<std::string> to_imds_text(const config::Value& value);

}  // namespace wisp::mmds
