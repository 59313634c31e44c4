// SPDX-License-Identifier: Apache-2.0
//
// A file for one test, gone with the test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace wisp::test {

class TempFile {
public:
    explicit TempFile(uint64_t size);
    explicit TempFile(std::string_view content);
    TempFile(const TempFile&) = delete;
    ~TempFile();

    const std::string& path() const { return path_; }
    std::string content() const;
    void resize(uint64_t size) const;

private:
    std::string path_;
};

}  // namespace wisp::test
