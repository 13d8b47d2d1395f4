// The side that owns a pool and publishes.
#ifndef BIPS_PRODUCER_HPP
#define BIPS_PRODUCER_HPP

#include "writable_frame.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

BIPS_NAMESPACE_BEGIN

/// What a producer's frames hold, and how it shares them. Begin with bips::image, bips::tensor or bips::bytes.
struct ProducerOptions {
    std::string format = {}; ///< of an image: V4L2's code, such as "RGB3" or "NV12"
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::string dtype = {}; ///< of a tensor, such as "float32"
    std::vector<std::uint64_t> shape = {};
    std::uint64_t nbytes = 0; ///< of plain bytes
    std::uint32_t slots = 0;  ///< 0 is 4, at most 64
    std::uint32_t max_held = 0; ///< frames one consumer may lease; 0 is two fewer than there are slots
    std::uint32_t history = 0;  ///< frames that a late joiner still gets
    std::uint32_t usage = 0;    ///< BIPS_USAGE_..., 0 for the CPU alone
    std::string memory = {};    ///< "auto", or a kind that bips::doctor lists
    std::string access = {};    ///< "owner", "group:NAME" or "directory"
    std::string on_stall = {};  ///< "wait" or "expel:SECONDS"
    std::string directory = {}; ///< the runtime directory
    bool writable = false;      ///< consumers may write
    bool reliable = true;       ///< admits consumers that could hold the producer back
    std::int64_t spin_ns = 0;   ///< looks so long before it sleeps; negative: not at all
};

inline ProducerOptions image(std::string format, std::uint32_t width, std::uint32_t height) {
    ProducerOptions options;
    options.format = std::move(format);
    options.width = width;
    options.height = height;
    return options;
}
inline ProducerOptions tensor(std::string dtype, std::vector<std::uint64_t> shape) {
    ProducerOptions options;
    options.dtype = std::move(dtype);
    options.shape = std::move(shape);
    return options;
}
inline ProducerOptions bytes(std::uint64_t nbytes) {
    ProducerOptions options;
    options.nbytes = nbytes;
    return options;
}

/// Owns the pool of one stream and publishes frames from it. Any thread, several at once. Its end is that of the stream.
class Producer {
public:
    Producer() noexcept = default;

    static Result<Producer> try_create(const std::string& name, const ProducerOptions& options) {
        if (!detail::whole(name, options.format, options.dtype, options.memory, options.access, options.on_stall,
                           options.directory))
            return {BIPS_INVALID_ARGUMENT, detail::not_whole};
        auto c = bips_producer_options_init();
        c.format = detail::text(options.format);
        c.width = options.width;
        c.height = options.height;
        c.dtype = detail::text(options.dtype);
        c.shape = options.shape.data();
        c.ndim = options.shape.size();
        c.bytes = options.nbytes;
        c.slots = options.slots;
        c.max_held = options.max_held;
        c.history = options.history;
        c.usage = options.usage;
        c.memory = detail::text(options.memory);
        c.access = detail::text(options.access);
        c.on_stall = detail::text(options.on_stall);
        c.directory = detail::text(options.directory);
        c.writable = options.writable;
        c.refuse_reliable = !options.reliable;
        c.spin_ns = options.spin_ns;
        bips_producer* producer = nullptr;
        const bips_status status = bips_producer_create(name.c_str(), &c, &producer);
        if (status != BIPS_OK) return detail::failed(status);
        return Producer(producer);
    }

    /// A free slot for the next frame.
    Result<WritableFrame> try_acquire(Timeout timeout = forever) const {
        bips_writable_frame* frame = nullptr;
        auto slot = bips_slot_init();
        const bips_status status = bips_producer_acquire_slot(c(), timeout.ns(), &frame, &slot);
        if (status == BIPS_TIMEOUT && timeout.ns() == 0) return {status, "no slot is free just now"};
        if (status != BIPS_OK) return detail::failed(status, c());
        return WritableFrame(frame, slot);
    }
    Result<Done> try_wait_for_consumers(std::uint32_t count, Timeout timeout = forever) const {
        return detail::done(bips_producer_wait_for_consumers(c(), count, timeout.ns()), c());
    }
    Result<Layout> try_layout() const {
        auto layout = bips_layout_init();
        const bips_status status = bips_producer_get_layout(c(), &layout);
        if (status != BIPS_OK) return detail::failed(status, c());
        return Layout(layout);
    }
    Result<bips_producer_stats> try_stats() const {
        auto stats = bips_producer_stats_init();
        const bips_status status = bips_producer_get_stats(c(), &stats);
        if (status != BIPS_OK) return detail::failed(status, c());
        return stats;
    }
    /// Who consumes it now.
    Result<std::vector<bips_consumer_state>> try_consumers() const {
        std::vector<bips_consumer_state> consumers(64);
        std::size_t count = 0;
        const bips_status status = bips_producer_get_consumers(c(), consumers.data(), consumers.size(), &count);
        if (status != BIPS_OK) return detail::failed(status, c());
        consumers.resize(count);
        return consumers;
    }
    /// Ends the stream now, and what waits in a call with it. Any thread.
    void close() const noexcept { bips_producer_close(c()); }

#ifdef BIPS_EXCEPTIONS
    Producer(const std::string& name, const ProducerOptions& options) : Producer(try_create(name, options).value()) {}
    WritableFrame acquire(Timeout timeout = forever) const { return try_acquire(timeout).value(); }
    void wait_for_consumers(std::uint32_t count, Timeout timeout = forever) const {
        try_wait_for_consumers(count, timeout).value();
    }
    Layout layout() const { return try_layout().value(); }
    bips_producer_stats stats() const { return try_stats().value(); }
    std::vector<bips_consumer_state> consumers() const { return try_consumers().value(); }
#endif

    explicit operator bool() const noexcept { return c() != nullptr; }
    bips_producer* c() const noexcept { return handle_.get(); }

private:
    explicit Producer(bips_producer* producer) noexcept : handle_(producer) {}
    detail::Handle<bips_producer, bips_producer_destroy> handle_;
};

BIPS_NAMESPACE_END

#endif // BIPS_PRODUCER_HPP
