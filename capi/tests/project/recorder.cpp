// recorder produce|consume NAME FRAMES: 1080p images, each pixel of which depends on the frame. Prints of each its number,
// the sum of its bytes, and where in this process it lies: address, and the mapping around it with the file's inode.

#include <bips.hpp>

#include <cinttypes>
#include <fstream>
#include <iostream>
#include <sstream>

namespace {

constexpr int WIDTH = 1920, HEIGHT = 1080;

/// "BEGIN-END INODE" of the mapping that an address lies in.
std::string mapping_of(const void* at) {
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t begin = 0, end = 0;
        char mode[8] = "", device[16] = "";
        unsigned long offset = 0, inode = 0;
        std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %7s %lx %15s %lu", &begin, &end, mode, &offset, device, &inode);
        if (begin <= address && address < end) {
            std::ostringstream said;
            said << begin << "-" << end << " " << inode;
            return said.str();
        }
    }
    return "nowhere";
}

void tell(std::uint64_t number, const std::byte* data, std::size_t nbytes) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < nbytes; i++) sum += std::to_integer<std::uint64_t>(data[i]);
    std::cout << number << " " << sum << " " << reinterpret_cast<std::uintptr_t>(data) << " " << mapping_of(data) << std::endl;
}

void produce(const char* name, int frames) {
    bips::Producer producer(name, bips::image("RGB3", WIDTH, HEIGHT));
    const auto nbytes = producer.layout().content.nbytes();
    producer.wait_for_consumers(1, std::chrono::seconds(60));
    for (int n = 0; n < frames; n++) {
        auto slot = producer.acquire(std::chrono::seconds(60));
        for (std::size_t i = 0; i < nbytes; i++) slot.data()[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(n) * 31);
        tell(static_cast<std::uint64_t>(n), slot.data(), nbytes);
        slot.publish();
    }
}

void consume(const char* name, int frames) {
    bips::Consumer consumer(name, {"reliable"}, std::chrono::seconds(60));
    int count = 0;
    for (auto& frame : consumer) {
        tell(frame.sequence(), frame.data(), frame.nbytes());
        count++;
    }
    if (count != frames) throw std::runtime_error("not all frames came");
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 4) return std::cerr << "usage: recorder produce|consume NAME FRAMES\n", 2;
    try {
        (argv[1] == std::string("produce") ? produce : consume)(argv[2], std::atoi(argv[3]));
    } catch (const std::exception& error) {
        return std::cerr << error.what() << "\n", 1;
    }
    return 0;
}
