// Slots to write frames into.
#ifndef BIPS_WRITABLE_FRAME_HPP
#define BIPS_WRITABLE_FRAME_HPP

#include "content.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

BIPS_NAMESPACE_BEGIN

/// What a producer says about one frame.
struct Description {
    std::vector<std::uint64_t> shape = {}; ///< empty: the stream's
    std::chrono::nanoseconds timestamp{0}; ///< when it was captured, of CLOCK_MONOTONIC; 0: now
    const void* metadata = nullptr;
    std::size_t metadata_size = 0;
};

/// A slot to write the next frame into. Given back unseen unless it is published. One thread at a time.
///
/// Views of its memory end with it, so there are none of a slot without a name: `auto slot = producer.acquire();`.
class WritableFrame {
public:
    WritableFrame() noexcept = default;
    WritableFrame(WritableFrame&& other) noexcept
        : handle_(std::move(other.handle_)), slot_(std::exchange(other.slot_, bips_slot{})) {}
    WritableFrame& operator=(WritableFrame&& other) noexcept {
        handle_ = std::move(other.handle_);
        slot_ = std::exchange(other.slot_, bips_slot{});
        return *this;
    }

    std::byte* data() const noexcept { return static_cast<std::byte*>(slot_.data); }
    /// Bytes of the slot, which may be more than a frame's content has: see content().nbytes().
    std::size_t nbytes() const noexcept { return slot_.nbytes; }
    View<std::byte> bytes() const& noexcept { return {data(), nbytes()}; }
    std::uint32_t slot() const noexcept { return slot_.index; }
    /// How the stream's frames lie; all zeros once this was published.
    Content content() const {
        bips_content content{};
        bips_writable_frame_get_content(c(), &content);
        return Content(content);
    }
    /// Plane `i`, from 0, of an image; a tensor is one plane.
    Result<Plane<std::byte>> try_plane(std::size_t i) const& { return content().try_plane(data(), i); }
    /// The same. Where there is none it throws, or ends the program where exceptions are switched off.
    Plane<std::byte> plane(std::size_t i) const& { return try_plane(i).value(); }
    /// The elements, which must lie without gaps. `T` is as for Content::try_as.
    template <class T> Result<View<T>> try_as() const& { return content().template try_as<T>(data()); }

    /// Hands it to every consumer, once `ready`; its sequence number, from 0. Also when it fails the frame has ended.
    Result<std::uint64_t> try_publish(const Description& description, const bips_fence* ready = nullptr) {
        if (description.timestamp.count() < 0) {
            cancel();
            return {BIPS_INVALID_ARGUMENT,
                    "the timestamp is before the begin of the clock; std::chrono::steady_clock's are meant, or 0 for now"};
        }
        auto described = bips_description_init();
        described.shape = description.shape.empty() ? nullptr : description.shape.data();
        described.ndim = description.shape.size();
        described.timestamp_ns = static_cast<std::uint64_t>(description.timestamp.count());
        described.metadata = description.metadata;
        described.metadata_size = description.metadata_size;
        return publish_with(&described, ready);
    }
    Result<std::uint64_t> try_publish() { return publish_with(nullptr, nullptr); }
    /// A device writes the frame instead of the CPU: do not touch its bytes from here until it is published.
    Result<Done> try_for_device() { return detail::done(bips_writable_frame_for_device(c()), c()); }
    /// By which devices write to it, such as V4L2 or a decoder. Not for consumers: it may allow more than theirs.
    Result<Fd> try_fd() const {
        int number = -1;
        std::uint64_t offset = 0;
        const bips_status status = bips_writable_frame_fd(c(), &number, &offset);
        if (status != BIPS_OK) return detail::failed(status, c());
        return Fd(number, offset);
    }
    /// For frameworks that write into DLPack tensors; let go of it when the frame is published.
    Result<DLManagedTensorVersioned*> try_dlpack(int plane = -1) const {
        return detail::tensor<DLManagedTensorVersioned, bips_writable_frame>(bips_writable_frame_dlpack, c(), plane);
    }
    /// The same before DLPack 1.0.
    Result<DLManagedTensor*> try_dlpack_legacy(int plane = -1) const {
        return detail::tensor<DLManagedTensor, bips_writable_frame>(bips_writable_frame_dlpack_legacy, c(), plane);
    }
    void cancel() noexcept {
        slot_ = {};
        handle_ = Handle();
    }

#ifdef BIPS_EXCEPTIONS
    std::uint64_t publish() { return try_publish().value(); }
    std::uint64_t publish(const Description& description, const bips_fence* ready = nullptr) {
        return try_publish(description, ready).value();
    }
    void for_device() { try_for_device().value(); }
    Fd fd() const { return try_fd().value(); }
    DLManagedTensorVersioned* dlpack(int plane = -1) const { return try_dlpack(plane).value(); }
    DLManagedTensor* dlpack_legacy(int plane = -1) const { return try_dlpack_legacy(plane).value(); }
    template <class T> View<T> as() const& { return try_as<T>().value(); }
#endif

#ifdef BIPS_OPENCV
    /// A matrix over the slot, to draw or decode into.
    Result<cv::Mat> try_mat() const& { return content().try_mat(data()); }
    /// Of one plane, with a column for each of its elements.
    Result<cv::Mat> try_mat(std::size_t plane) const& { return content().try_mat(data(), plane); }
    Result<cv::Mat> try_mat() const&& = delete;
    Result<cv::Mat> try_mat(std::size_t plane) const&& = delete;
#ifdef BIPS_EXCEPTIONS
    cv::Mat mat() const& { return try_mat().value(); }
    cv::Mat mat(std::size_t plane) const& { return try_mat(plane).value(); }
    cv::Mat mat() const&& = delete;
    cv::Mat mat(std::size_t plane) const&& = delete;
#endif
#endif

    View<std::byte> bytes() const&& = delete;
    Result<Plane<std::byte>> try_plane(std::size_t i) const&& = delete;
    Plane<std::byte> plane(std::size_t i) const&& = delete;
    template <class T> Result<View<T>> try_as() const&& = delete;
#ifdef BIPS_EXCEPTIONS
    template <class T> View<T> as() const&& = delete;
#endif

    explicit operator bool() const noexcept { return c() != nullptr; }
    bips_writable_frame* c() const noexcept { return handle_.get(); }

private:
    friend class Producer;
    using Handle = detail::Handle<bips_writable_frame, bips_writable_frame_cancel>;

    WritableFrame(bips_writable_frame* frame, const bips_slot& slot) noexcept : handle_(frame), slot_(slot) {}

    Result<std::uint64_t> publish_with(const bips_description* description, const bips_fence* ready) {
        std::uint64_t sequence = 0;
        const bips_status status = bips_writable_frame_publish(c(), description, ready, &sequence);
        slot_ = {};
        if (status != BIPS_OK) {
            auto why = detail::failed(status, c());
            handle_ = Handle(); // where that left it: given back
            return why;
        }
        handle_.release();
        return sequence;
    }

    Handle handle_;
    bips_slot slot_{};
};

BIPS_NAMESPACE_END

#endif // BIPS_WRITABLE_FRAME_HPP
