// SPDX-License-Identifier: Apache-2.0
//
// A machine file in TOML.
#include "tests/fuzz/fuzz.h"
#include "vmm/config/vm_config.h"

using namespace wisp;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::File file(".toml");
    const auto loaded = config::load_config_file(file.write({reinterpret_cast<const char*>(data), size}));
    CHECK(loaded || loaded.error().message.find('\n') == std::string::npos);
    return 0;
}
