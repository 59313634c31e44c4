// SPDX-License-Identifier: Apache-2.0
//
// Machine files, and the rules between resources.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "vmm/config/vm_config.h"

using namespace wisp;
using namespace wisp::config;

namespace {

/// A file that is gone when the test is over.
struct TemporaryFile {
    std::string path;
    TemporaryFile(const std::string& text, const std::string& extension) {
        char name[] = "/tmp/wisp-test-XXXXXX";
        close(mkstemp(name));
        unlink(name);
        path = name + extension;
        FILE* file = fopen(path.c_str(), "w");
        fwrite(text.data(), 1, text.size(), file);
        fclose(file);
    }
    ~TemporaryFile() { unlink(path.c_str()); }
};

/// What is wrong with a machine file, without the part that names the file.
std::string fault(const std::string& text, const std::string& extension) {
    const TemporaryFile file(text, extension);
    const auto config = load_config_file(file.path);
    if (config) return "ok";
    const std::string prefix = "machine file " + file.path + ": ";
    REQUIRE(config.error().message.starts_with(prefix));
    return config.error().message.substr(prefix.size());
}

const std::string kToml = R"(# a machine
[boot-source]
kernel_image_path = "/k"
boot_args = "console=ttyS0"

[machine-config]
vcpu_count = 2
mem_size_mib = 256

[[drives]]
drive_id = "data"
is_root_device = false
path_on_host = "/data"
direct = true
[drives.rate_limiter]
ops = { size = 100, refill_time = 1000 }

[[drives]]
drive_id = "root"
is_root_device = true
is_read_only = true
path_on_host = "/root"

[[network-interfaces]]
iface_id = "eth0"
host_dev_name = "tap0"
guest_mac = "06:00:00:00:00:01"

[vsock]
guest_cid = 3
uds_path = "/v.sock"

[mmds-config]
network_interfaces = ["eth0"]
version = "V2"

[serial]
serial_out_path = "/dev/null"
)";

}  // namespace

TEST_CASE("a TOML machine file gives the machine, its root drive first") {
    const TemporaryFile file(kToml, ".toml");
    const auto config = load_config_file(file.path);
    if (!config) FAIL(config.error().message);
    CHECK(config->machine.vcpu_count == 2);
    CHECK(config->machine.mem_size_mib == 256);
    REQUIRE(config->drives.size() == 2);
    CHECK(config->drives[0].drive_id == "root");
    CHECK(config->drives[0].is_read_only);
    CHECK(config->drives[1].direct);
    CHECK(config->drives[1].rate_limiter->ops->size == 100);
    CHECK(to_string(*config->network_interfaces[0].guest_mac) == "06:00:00:00:00:01");
    CHECK(config->vsock->guest_cid == 3);
    CHECK(config->mmds->version == MmdsVersion::kV2);
    CHECK(config->serial->serial_out_path == "/dev/null");

    SECTION("and what GET /vm/config shows of it is a machine file itself, in JSON") {
        const TemporaryFile shown(config->to_json(), ".json");
        const auto again = load_config_file(shown.path);
        if (!again) FAIL(again.error().message);
        CHECK(again->to_json() == config->to_json());
    }
}

TEST_CASE("a file of another name is JSON if it starts with a brace") {
    const std::string json = R"( {"boot-source":{"kernel_image_path":"/k"}})";
    CHECK(fault(json, ".conf") == "ok");
    CHECK(fault("[boot-source]\nkernel_image_path = \"/k\"\n", "") == "ok");
    CHECK(fault(json, ".toml") != "ok");
}

TEST_CASE("what is wrong with a machine file is told with line and column") {
    CHECK(fault("", ".json") == "EOF while parsing a value at line 1 column 0");
    CHECK(fault("{\"drives\":[]}", ".json") == "missing field `boot-source` at line 1 column 13");
    CHECK(fault("{\"boot-source\":{\"kernel_image_path\":\"/k\"},}", ".json") == "trailing comma at line 1 column 43");
    CHECK(fault("{\n \"boots\":{}}", ".json")
              .starts_with("unknown field `boots`, expected one of `boot-source`, `drives`"));
    CHECK(fault("[boot-source]\nkernel_image_path = 5\n", ".toml") ==
          "invalid type: integer `5`, expected a string at line 2 column 21");
    CHECK(
        fault("[boot-source]\nkernel_image_path = \"/k\"\ninitrd = \"/i\"\n", ".toml").ends_with("at line 3 column 1"));
    CHECK(fault("[boot-source\n", ".toml").ends_with("at line 1 column 13"));
    CHECK(fault("[machine-config]\nvcpu_count = 1\n", ".toml").starts_with("missing field `mem_size_mib` at line 1"));
}

TEST_CASE("lists may be left out or empty, but not null") {
    const std::string start = R"({"boot-source":{"kernel_image_path":"/k"},)";
    CHECK(fault(start + R"("drives":[],"network-interfaces":[]})", ".json") == "ok");
    CHECK(fault(R"({"boot-source":{"kernel_image_path":"/k"}})", ".json") == "ok");
    CHECK(fault(start + R"("drives":null})", ".json") == "invalid type: null, expected a sequence at line 1 column 55");
    CHECK(
        fault(start + R"("network-interfaces":null})", ".json").starts_with("invalid type: null, expected a sequence"));
}

TEST_CASE("devices that Wisp leaves out are refused by name, and may be null") {
    const std::string start = R"({"boot-source":{"kernel_image_path":"/k"},)";
    CHECK(fault(start + R"("balloon":null,"entropy":null,"pmem":[],"memory-hotplug":null})", ".json") == "ok");
    CHECK(fault(start + R"("balloon":{"amount_mib":1}})", ".json")
              .starts_with("`balloon`: Wisp leaves this device out by design"));
    CHECK(fault(start + R"("entropy":{}})", ".json").starts_with("`entropy`: Wisp leaves"));
}

TEST_CASE("rules of and between resources hold in files") {
    const std::string start = R"({"boot-source":{"kernel_image_path":"/k"},)";
    CHECK(fault(start + R"("machine-config":{"vcpu_count":33,"mem_size_mib":128}})", ".json")
              .starts_with("machine-config: The number of vCPUs must be greater than 0"));
    CHECK(fault(start + R"("machine-config":{"vcpu_count":1,"mem_size_mib":0}})", ".json")
              .starts_with("machine-config: The memory size (MiB) is either 0"));
    CHECK(fault(start + R"("drives":[{"drive_id":"a-b","is_root_device":false,"path_on_host":"/d"}]})", ".json") ==
          "drive a-b: API Resource IDs can only contain alphanumeric characters and underscores.");
    CHECK(fault(start + R"("mmds-config":{"network_interfaces":["x"]}})", ".json")
              .starts_with("mmds-config: The list of network"));
    CHECK(load_config_file("/nonexistent/m.toml").error().message.find("/nonexistent/m.toml: No such file") !=
          std::string::npos);
    const TemporaryFile large(std::string(2 << 20, ' '), ".json");
    CHECK_FALSE(load_config_file(large.path));
}

TEST_CASE("rules of a configuration that is put together piece by piece") {
    VmConfig config;
    const auto put = [&](const char* id, bool root, const char* path) {
        Drive drive;
        drive.drive_id = id;
        drive.is_root_device = root;
        drive.path_on_host = path;
        const auto result = config.put_drive(drive);
        return result ? "ok" : result.error().message;
    };
    CHECK(put("a", true, "/a") == "ok");
    CHECK(put("b", true, "/b") == "A root block device already exists!");
    CHECK(put("b", false, "/b") == "ok");
    CHECK(put("a", false, "/a2") == "ok");
    CHECK(put("b", true, "/b") == "ok");
    CHECK(config.drives[0].drive_id == "b");
    CHECK(config.drives[1].path_on_host == "/a2");
    CHECK(put("c", false, "") == "Unable to create the virtio block device: Invalid block config.");

    NetworkInterface net;
    net.iface_id = "e";
    net.host_dev_name = "tap0";
    net.guest_mac = MacAddress{6, 0, 0, 0, 0, 1};
    CHECK(config.put_network_interface(net));
    CHECK(config.put_network_interface(net));
    net.iface_id = "f";
    net.host_dev_name = "tap1";
    CHECK(config.put_network_interface(net).error().message == "The MAC address is already in use: 06:00:00:00:00:01");
    net.guest_mac.reset();
    net.mtu = 67;
    CHECK(config.put_network_interface(net).error().message ==
          "Could not create the network device: MTU 67 is out of range [68, 65535]");

    MachineConfig machine;
    machine.smt = true;
    machine.vcpu_count = 3;
    CHECK_FALSE(config.put_machine(machine));
    machine.vcpu_count = 4;
    machine.cpu_template = CpuTemplateName::kT2;
    CHECK(config.put_machine(machine));
    CHECK_FALSE(config.patch_machine({.vcpu_count = 3}));
    CHECK(config.patch_machine({.mem_size_mib = 512}));
    CHECK(config.machine.vcpu_count == 4);
    CHECK(config.machine.cpu_template == CpuTemplateName::kT2);
    machine.huge_pages = HugePages::k2M;
    machine.mem_size_mib = 129;
    CHECK_FALSE(config.put_machine(machine));
    config.put_cpu_config({});
    CHECK_FALSE(config.machine.cpu_template);

    CHECK_FALSE(config.put_vsock({.guest_cid = 2, .uds_path = "/v", .vsock_id = {}}));
    CHECK(config.put_mmds({.network_interfaces = {"e"}, .ipv4_address = Ipv4Address{169, 254, 0, 1}}).error().message ==
          "The MMDS IPv4 address is not link local.");
}

TEST_CASE("an empty configuration is shown as Firecracker shows it") {
    CHECK(VmConfig{}.to_json() ==
          R"({"balloon":null,"drives":[],"boot-source":{"kernel_image_path":"","initrd_path":null,"boot_args":null},)"
          R"("cpu-config":null,"logger":null,"machine-config":{"vcpu_count":1,"mem_size_mib":128,"smt":false,)"
          R"("track_dirty_pages":false,"huge_pages":"None"},"metrics":null,"mmds-config":null,"network-interfaces":[],)"
          R"("vsock":null,"entropy":null,"pmem":[],"memory-hotplug":null})");
}

TEST_CASE("the examples load, and describe the same machine") {
    const auto toml = load_config_file("examples/machine.toml");
    if (!toml) FAIL(toml.error().message);
    const auto json = load_config_file("examples/machine.json");
    if (!json) FAIL(json.error().message);
    CHECK(toml->to_json() == json->to_json());
    CHECK(toml->cpu_config->cpuid_modifiers[0].modifiers[0].second.filter == 1u << 16);
    CHECK(toml->metrics->properties == json->metrics->properties);
}

TEST_CASE("config file: a message that quotes the file is one line") {
    const TemporaryFile file(R"({"boot-source": {"a\nb\u001b": 1}})", ".json");
    const auto loaded = load_config_file(file.path);
    REQUIRE_FALSE(loaded);
    CHECK_THAT(loaded.error().message, Catch::Matchers::Contains("unknown field `a?b?`"));
}

TEST_CASE("config file: control characters in TOML are an error with its place") {
    for (const char letter : {'\0', '\1', '\x1f', '\x7f'}) {
        const TemporaryFile file("[boot-source]\n[" + std::string(1, letter), ".toml");
        const auto loaded = load_config_file(file.path);
        REQUIRE_FALSE(loaded);
        CHECK_THAT(loaded.error().message,
                   Catch::Matchers::Contains("control character") && Catch::Matchers::Contains("line 2 column 2"));
    }
}

TEST_CASE("config file: a table header without a name is an error with its place") {
    for (const char* text : {"[=", "[#", "[[[", "[[[[a]]", "[", "[[", "[.a]", "[a.[", "[]", "[\xb9"}) {
        INFO(text);
        const TemporaryFile file(text, ".toml");
        const auto loaded = load_config_file(file.path);
        REQUIRE_FALSE(loaded);
        CHECK_THAT(loaded.error().message, Catch::Matchers::Contains("line 1 column"));
    }
}
