// SPDX-License-Identifier: Apache-2.0
//
// Inside the guest of tests/linux/test_block.py, where there is no fio: a static program.
//   block_probe torture FOLDER SEED FILES STEPS   changes files in every way there is, a thread for each, and reads all
//   back block_probe log DEVICE SEED                   writes records to a drive, and says of each when fsync has
//   returned
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBlock = 4096;

[[noreturn]] void die(const std::string& what) {
    fprintf(stderr, "block_probe: %s: %m\n", what.c_str());
    _exit(1);
}

// O_DIRECT wants memory on a page.
char* pages(size_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) die("mmap");
    return static_cast<char*>(memory);
}

// ---- torture

constexpr size_t kFileSize = 256 << 10;

// One file, and what must be in it.
class File {
public:
    File(std::string path, uint32_t seed)
        : path_(std::move(path)), random_(seed), content_(kFileSize), buffer_(pages(kFileSize)) {
        open_new();
    }

    void step() {
        switch (pick(12)) {
            case 0:
            case 1:
            case 2:
                return write(cached_, pick(kFileSize), 1 + pick(40000));
            case 3:
            case 4:
                return write(direct_, pick(kFileSize / kBlock) * kBlock, (1 + pick(16)) * kBlock);
            case 5:
            case 6:
                return read(cached_, pick(kFileSize), 1 + pick(40000));
            case 7:
                return read(direct_, pick(kFileSize / kBlock) * kBlock, (1 + pick(16)) * kBlock);
            case 8:
                return check(fsync(cached_), "fsync");
            case 9:
                return punch(pick(kFileSize), 1 + pick(60000));
            case 10:
                return shorten(pick(kFileSize));
            default:
                return pick(8) ? move() : open_new();
        }
    }

    void read_all() {
        check(fsync(cached_), "fsync");
        read(direct_, 0, kFileSize);
        read(cached_, 0, kFileSize);
    }

private:
    size_t pick(size_t bound) { return random_() % bound; }
    void check(long result, const char* what) {
        if (result < 0) die(path_ + ": " + what);
    }

    void open_new() {
        if (cached_ >= 0) {
            check(unlink(path_.c_str()), "unlink");
            close(cached_);
            close(direct_);
        }
        check(cached_ = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600), "open");
        check(direct_ = open(path_.c_str(), O_RDWR | O_DIRECT), "open with O_DIRECT");
        check(ftruncate(cached_, kFileSize), "ftruncate");
        std::fill(content_.begin(), content_.end(), 0);
    }
    void move() {
        const std::string next = path_ + (path_.size() % 2 ? "x" : "yz");
        check(rename(path_.c_str(), next.c_str()), "rename");
        path_ = next.size() > 200 ? path_ : next;
        if (path_ != next) check(rename(next.c_str(), path_.c_str()), "rename back");
    }
    void shorten(size_t size) {
        check(ftruncate(cached_, static_cast<off_t>(size)), "ftruncate");
        check(ftruncate(cached_, kFileSize), "ftruncate");
        std::fill(content_.begin() + static_cast<long>(size), content_.end(), 0);
    }
    void punch(size_t offset, size_t size) {
        size = std::min(size, kFileSize - offset);
        check(fallocate(cached_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                        static_cast<off_t>(size)),
              "fallocate");
        std::fill_n(content_.begin() + static_cast<long>(offset), size, 0);
    }
    void write(int fd, size_t offset, size_t size) {
        size = std::min(size, kFileSize - offset);
        for (size_t i = 0; i < size; i += sizeof(uint32_t)) {
            const uint32_t word = random_();
            memcpy(buffer_ + i, &word, std::min(sizeof word, size - i));
        }
        std::copy_n(buffer_, size, content_.begin() + static_cast<long>(offset));
        if (pwrite(fd, buffer_, size, static_cast<off_t>(offset)) != static_cast<ssize_t>(size))
            die(path_ + ": pwrite");
    }
    void read(int fd, size_t offset, size_t size) {
        size = std::min(size, kFileSize - offset);
        if (pread(fd, buffer_, size, static_cast<off_t>(offset)) != static_cast<ssize_t>(size)) die(path_ + ": pread");
        const auto [ours, read] = std::mismatch(content_.begin() + static_cast<long>(offset),
                                                content_.begin() + static_cast<long>(offset + size), buffer_);
        if (read == buffer_ + size) return;
        printf("%s: byte %zu is %d, not %d (%s)\n", path_.c_str(), static_cast<size_t>(ours - content_.begin()), *read,
               *ours, fd == direct_ ? "O_DIRECT" : "cached");
        fflush(stdout);
        _exit(1);
    }

    std::string path_;
    std::mt19937 random_;
    std::vector<char> content_;
    char* buffer_;
    int cached_ = -1, direct_ = -1;
};

void drop_caches() {
    sync();
    const int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (fd < 0 || ::write(fd, "3", 1) != 1) die("/proc/sys/vm/drop_caches");
    close(fd);
}

int torture(const std::string& folder, uint32_t seed, unsigned files, unsigned steps) {
    std::vector<File> all;
    for (unsigned i = 0; i < files; ++i) all.emplace_back(folder + "/file" + std::to_string(i), seed + i);
    std::vector<std::thread> threads;
    for (File& file : all)
        threads.emplace_back([&file, steps] {
            for (unsigned i = 0; i < steps; ++i) file.step();
        });
    for (std::thread& thread : threads) thread.join();
    drop_caches();
    for (File& file : all) file.read_all();
    printf("%u files are as they must be\n", files);
    return 0;
}

// ---- log

constexpr size_t kSlot = 4 * kBlock;
constexpr unsigned kWriters = 3;

// Writer w has the records w, w + kWriters, …; the slots of all are scattered over the drive. test_block.py knows the
// same places and bytes.
void write_records(const char* device, uint64_t seed, uint64_t first) {
    const int fd = open(device, O_RDWR);
    const off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size < 0) die(device);
    const uint64_t slots = static_cast<uint64_t>(size) / kSlot;  // a power of two
    std::vector<uint64_t> record(kSlot / sizeof(uint64_t));
    for (uint64_t number = first; number < slots; number += kWriters) {
        for (size_t i = 0; i < record.size(); ++i)
            record[i] = seed + number * 0x9e3779b97f4a7c15 + i * 0xc2b2ae3d27d4eb4f;
        const uint64_t slot = number * 0x9e3779b1 % slots;
        const size_t length = (1 + number % 4) * kBlock;
        if (pwrite(fd, record.data(), length, static_cast<off_t>(slot * kSlot)) != static_cast<ssize_t>(length))
            die("pwrite");
        if (fsync(fd) < 0) die("fsync");
        printf("safe %lu\n", number);
    }
}

int log(const char* device, uint64_t seed) {
    setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    std::vector<std::thread> writers;
    for (unsigned i = 0; i < kWriters; ++i) writers.emplace_back([=] { write_records(device, seed, i); });
    for (std::thread& writer : writers) writer.join();
    printf("the drive is full\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string mode = argc > 1 ? argv[1] : "";
    const auto number = [&](int i) { return static_cast<uint32_t>(strtoul(argv[i], nullptr, 0)); };
    if (mode == "torture" && argc == 6) return torture(argv[2], number(3), number(4), number(5));
    if (mode == "log" && argc == 4) return log(argv[2], number(3));
    return fprintf(stderr, "block_probe: see the head of block_probe.cc\n"), 2;
}
