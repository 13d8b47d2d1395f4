// The side that takes frames.
#ifndef BIPS_CONSUMER_HPP
#define BIPS_CONSUMER_HPP

#include "frame.hpp"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>

BIPS_NAMESPACE_BEGIN

/// How a consumer reads.
struct ConsumerOptions {
    std::string policy = {};    ///< "reliable", "latest" or "keep-last:N"
    std::string directory = {}; ///< the runtime directory
    bool reconnect = false;     ///< goes on with the next producer of the name when this one ends
    std::int64_t spin_ns = 0;   ///< looks so long before it sleeps; negative: not at all
    std::string label = {};     ///< what the producer shows it as; empty: its program and host
};

/// Takes frames from one stream. One thread at a time; `close` is for any.
class Consumer {
public:
    Consumer() noexcept = default;

    /// Waits as long as `timeout` for the stream to appear.
    static Result<Consumer> try_connect(const std::string& name, const ConsumerOptions& options = {},
                                        Timeout timeout = now) {
        if (!detail::whole(name, options.policy, options.directory, options.label))
            return {BIPS_INVALID_ARGUMENT, detail::not_whole};
        auto c = bips_consumer_options_init();
        c.policy = detail::text(options.policy);
        c.directory = detail::text(options.directory);
        c.reconnect = options.reconnect;
        c.spin_ns = options.spin_ns;
        c.label = detail::text(options.label);
        bips_consumer* consumer = nullptr;
        const bips_status status = bips_consumer_connect(name.c_str(), &c, timeout.ns(), &consumer);
        if (status != BIPS_OK) return detail::failed(status);
        return Consumer(consumer);
    }

    /// The next frame.
    Result<Frame> try_receive(Timeout timeout = forever) {
        bips_frame* frame = nullptr;
        const void* data = nullptr;
        std::size_t nbytes = 0;
        const bips_status status = bips_consumer_receive_data(c(), timeout.ns(), &frame, &data, &nbytes);
        if (status == BIPS_TIMEOUT && timeout.ns() == 0) return {status, "no frame is there just now"};
        if (status != BIPS_OK) return detail::failed(status, c());
        return Frame(frame, data, nbytes);
    }
    /// For poll and epoll: readable when there may be something to receive. It belongs to the consumer.
    Result<int> try_poll_fd() {
        int fd = -1;
        const bips_status status = bips_consumer_poll_fd(c(), &fd);
        if (status != BIPS_OK) return detail::failed(status, c());
        return fd;
    }
    Result<Layout> try_layout() const {
        auto layout = bips_layout_init();
        const bips_status status = bips_consumer_get_layout(c(), &layout);
        if (status != BIPS_OK) return detail::failed(status, c());
        return Layout(layout);
    }
    Result<bips_consumer_stats> try_stats() const {
        auto stats = bips_consumer_stats_init();
        const bips_status status = bips_consumer_get_stats(c(), &stats);
        if (status != BIPS_OK) return detail::failed(status, c());
        return stats;
    }
    /// Reads no more. Any thread: a receive that waits, and a loop over all frames, end then (BIPS_CLOSED).
    void close() const noexcept { bips_consumer_close(c()); }
    /// How the stream ended, or that it has not. Refused while another thread is in a call with this.
    Result<bips_ending> try_ending() const {
        bips_ending ending = BIPS_NOT_ENDED;
        const bips_status status = bips_consumer_get_ending(c(), &ending);
        if (status != BIPS_OK) return detail::failed(status, c());
        return ending;
    }
    /// The same, and BIPS_NOT_ENDED where it can't be asked.
    bips_ending ending() const noexcept {
        bips_ending ending = BIPS_NOT_ENDED;
        bips_consumer_get_ending(c(), &ending);
        return ending;
    }

#ifdef BIPS_EXCEPTIONS
    explicit Consumer(const std::string& name, const ConsumerOptions& options = {}, Timeout timeout = now)
        : Consumer(try_connect(name, options, timeout).value()) {}
    Frame receive(Timeout timeout = forever) { return try_receive(timeout).value(); }
    int poll_fd() { return try_poll_fd().value(); }
    Layout layout() const { return try_layout().value(); }
    bips_consumer_stats stats() const { return try_stats().value(); }
#endif

    /// Where a loop over all frames ends: with the stream.
    struct End {};
    /// Steps from frame to frame, each given back with the step to the next. An error other than the stream's end is
    /// thrown; without exceptions it ends the program.
    class Iterator {
    public:
        using iterator_concept = std::input_iterator_tag; // C++20's: it is moved, never copied
        using value_type = Frame;
        using difference_type = std::ptrdiff_t;
        using pointer = Frame*;
        using reference = Frame&;

        explicit Iterator(Consumer& consumer) : consumer_(&consumer) { ++*this; }
        Frame& operator*() const noexcept { return frame_; }
        Frame* operator->() const noexcept { return &frame_; }
        Iterator& operator++() {
            frame_.release();
            auto next = consumer_->try_receive();
            if (next.status() == BIPS_CLOSED) {
                consumer_ = nullptr;
            } else {
                frame_ = std::move(next).value();
            }
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const Iterator& it, End) noexcept { return it.consumer_ == nullptr; }
        friend bool operator!=(const Iterator& it, End) noexcept { return it.consumer_ != nullptr; }
#if !defined(__cpp_impl_three_way_comparison)
        friend bool operator==(End, const Iterator& it) noexcept { return it.consumer_ == nullptr; }
        friend bool operator!=(End, const Iterator& it) noexcept { return it.consumer_ != nullptr; }
#endif

    private:
        Consumer* consumer_;
        mutable Frame frame_; // who looks through an iterator that is const may move the frame out
    };
    /// All frames until the stream ends: `for (auto& frame : consumer)`.
    Iterator begin() { return Iterator(*this); }
    End end() const noexcept { return {}; }

    explicit operator bool() const noexcept { return c() != nullptr; }
    bips_consumer* c() const noexcept { return handle_.get(); }

private:
    explicit Consumer(bips_consumer* consumer) noexcept : handle_(consumer) {}
    detail::Handle<bips_consumer, bips_consumer_destroy> handle_;
};

BIPS_NAMESPACE_END

#endif // BIPS_CONSUMER_HPP
