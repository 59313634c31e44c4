// SPDX-License-Identifier: Apache-2.0
//
// A machine file in JSON.
#include "tests/fuzz/fuzz.h"
#include "vmm/config/json.h"
#include "vmm/config/vm_config.h"

using namespace wisp;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::File file(".json");
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto loaded = config::load_config_file(file.write(text));
    CHECK(loaded || loaded.error().message.find('\n') == std::string::npos);
    (void)config::parse_json_strict(text);
    return 0;
}
