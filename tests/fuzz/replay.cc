// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target over the files and folders on its command line, and over every prefix of the small ones. For `make
// test`, with any compiler.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

constexpr size_t kSmall = 512;

size_t run(const std::string& path) {
    const auto content = wisp::read_file(path, 64 << 20);
    CHECK(content.has_value());
    // A copy of exactly this size: a read behind its end is then a sanitizer's business.
    const std::vector<uint8_t> bytes(content->begin(), content->end());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    if (bytes.size() > kSmall) return 1;
    for (size_t size = 0; size < bytes.size(); ++size) {
        const std::vector<uint8_t> prefix(bytes.begin(), bytes.begin() + static_cast<long>(size));
        LLVMFuzzerTestOneInput(prefix.data(), prefix.size());
    }
    return 1 + bytes.size();
}

}  // namespace

int main(int argc, char** argv) {
    size_t runs = 0;
    for (int i = 1; i < argc; ++i) {
        std::vector<std::string> paths;
        if (std::filesystem::is_directory(argv[i]))
            for (const auto& entry : std::filesystem::directory_iterator(argv[i])) paths.push_back(entry.path());
        else
            paths.emplace_back(argv[i]);
        std::sort(paths.begin(), paths.end());
        for (const std::string& path : paths) {
            fprintf(stderr, "%s\n", path.c_str());  // the last one named is the one that fails
            runs += run(path);
        }
    }
    printf("%zu runs\n", runs);
    return runs > 0 ? 0 : 1;
}
