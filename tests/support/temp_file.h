// SPDX-License-Identifier: Apache-2.0
//
// TempFile: a file that holds given bytes and is removed when it goes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace wisp::test {

class TempFile {
public:
    /// In $TMPDIR or /tmp. Fails the test where it cannot be made.
    explicit TempFile(std::string_view content);
    /// `size` zeroes, sparse.
    explicit TempFile(uint64_t size);
    TempFile(const TempFile&) = delete;
    TempFile& operator=(const TempFile&) = delete;
    ~TempFile();

    const std::string& path() const { return path_; }
    /// Open for reading only.
    int fd() const { return fd_.get(); }
    /// What the file holds now.
    std::string content() const;
    void resize(uint64_t size) const;

private:
    std::string path_;
    OwnedFd fd_;
};

}  // namespace wisp::test
