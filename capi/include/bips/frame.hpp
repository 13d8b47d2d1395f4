// Frames that were published: leases of slots.
#ifndef BIPS_FRAME_HPP
#define BIPS_FRAME_HPP

#include "content.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

BIPS_NAMESPACE_BEGIN

namespace detail {
inline bips_status release_frame(bips_frame* frame) { return bips_frame_release(frame, nullptr); }
} // namespace detail

/// A writable, private view of a frame: only pages written to are copied, and nobody else sees it.
class PrivateView {
public:
    PrivateView() noexcept = default;
    PrivateView(PrivateView&& other) noexcept
        : handle_(std::move(other.handle_)), data_(std::exchange(other.data_, nullptr)) {}
    PrivateView& operator=(PrivateView&& other) noexcept {
        handle_ = std::move(other.handle_);
        data_ = std::exchange(other.data_, nullptr);
        return *this;
    }

    /// As many bytes as the slot has.
    std::byte* data() const noexcept { return data_; }
    explicit operator bool() const noexcept { return data_ != nullptr; }

private:
    friend class Frame;
    PrivateView(bips_private_view* view, void* data) noexcept : handle_(view), data_(static_cast<std::byte*>(data)) {}
    detail::Handle<bips_private_view, bips_private_view_destroy> handle_;
    std::byte* data_ = nullptr;
};

/// A frame that another process published, readable in place until this ends. It may outlive its consumer. Any number of
/// threads may ask one at the same time; moving, releasing and ending it are for one that is alone with it.
///
/// Views of its memory end with it, so there are none of a frame without a name: `auto frame = consumer.receive();`.
class Frame {
public:
    Frame() noexcept : info_(bips_frame_info_init()) {}
    Frame(Frame&& other) noexcept
        : handle_(std::move(other.handle_)), data_(std::exchange(other.data_, nullptr)),
          nbytes_(std::exchange(other.nbytes_, 0)) {
        other.forget();
    }
    Frame& operator=(Frame&& other) noexcept {
        handle_ = std::move(other.handle_);
        forget();
        data_ = std::exchange(other.data_, nullptr);
        nbytes_ = std::exchange(other.nbytes_, 0);
        other.forget();
        return *this;
    }

    const std::byte* data() const noexcept { return static_cast<const std::byte*>(data_); }
    /// Bytes of the content, which the slot may be larger than.
    std::size_t nbytes() const noexcept { return nbytes_; }
    View<const std::byte> bytes() const& { return {data(), nbytes()}; }
    /// Of no frame: all zeros, as all that follows.
    Content content() const {
        return ask([](const bips_frame_info& info) { return Content(info.content); });
    }
    Dims<std::uint64_t> shape() const { return content().shape(); }
    const char* dtype_name() const {
        return ask([](const bips_frame_info& info) { return bips_dtype_name(info.content.dtype); });
    }
    /// Plane `i`, from 0, of an image; a tensor is one plane.
    Result<Plane<const std::byte>> try_plane(std::size_t i) const& { return content().try_plane(data(), i); }
    /// The same. Where there is none it throws, or ends the program where exceptions are switched off.
    Plane<const std::byte> plane(std::size_t i) const& { return try_plane(i).value(); }
    View<const std::byte> metadata() const& {
        return ask([](const bips_frame_info& info) {
            return View<const std::byte>(static_cast<const std::byte*>(info.metadata), info.metadata_size);
        });
    }
    /// Which publication of its producer this is, from 0.
    std::uint64_t sequence() const {
        return ask([](const bips_frame_info& info) { return info.sequence; });
    }
    /// Of which pool: it grows when a producer changes its pool, or a reconnecting consumer meets the next producer.
    std::uint32_t generation() const {
        return ask([](const bips_frame_info& info) { return info.generation; });
    }
    std::uint32_t slot() const {
        return ask([](const bips_frame_info& info) { return info.slot; });
    }
    bool readonly() const {
        return ask([](const bips_frame_info& info) { return info.readonly != 0; });
    }
    /// Of CLOCK_MONOTONIC, which is std::chrono::steady_clock's.
    std::chrono::nanoseconds timestamp() const {
        return ask([](const bips_frame_info& info) { return ns(info.timestamp_ns); });
    }
    std::chrono::nanoseconds published() const {
        return ask([](const bips_frame_info& info) { return ns(info.published_ns); });
    }

    /// The elements, which must lie without gaps. `T` is as for Content::try_as.
    template <class T> Result<View<const T>> try_as() const& { return content().template try_as<const T>(data()); }

    /// Copies from `offset` of the slot on: safe whatever the producer does.
    Result<Done> try_copy(void* to, std::size_t size, std::size_t offset = 0) const {
        return detail::done(bips_frame_copy(c(), offset, to, size), c());
    }
    /// For V4L2, DRM, GStreamer.
    Result<Fd> try_fd() const {
        int number = -1;
        std::uint64_t offset = 0;
        const bips_status status = bips_frame_fd(c(), &number, &offset);
        if (status != BIPS_OK) return detail::failed(status, c());
        return Fd(number, offset);
    }
    /// It holds the lease itself.
    Result<PrivateView> try_private_view() const {
        bips_private_view* view = nullptr;
        void* data = nullptr;
        const bips_status status = bips_frame_private_view(c(), &view, &data);
        if (status != BIPS_OK) return detail::failed(status, c());
        return PrivateView(view, data);
    }
    /// For at::fromDLPackVersioned and the like: it holds the lease, and is given back by its deleter.
    Result<DLManagedTensorVersioned*> try_dlpack(int plane = -1) const {
        return detail::tensor<DLManagedTensorVersioned, bips_frame>(bips_frame_dlpack, c(), plane);
    }
    /// The same before DLPack 1.0, for at::fromDLPack: it can't say that it is read-only, so do not write to it.
    Result<DLManagedTensor*> try_dlpack_legacy(int plane = -1) const {
        return detail::tensor<DLManagedTensor, bips_frame>(bips_frame_dlpack_legacy, c(), plane);
    }
    /// Once `done`. The end of the frame does the same for work that is done. Of a fence whose timeline has gone nobody
    /// knows when that is: then the frame stays as it was.
    Result<Done> try_release(const bips_fence& done) {
        const bips_status status = bips_frame_release(c(), &done);
        auto outcome = detail::done(status, c());
        const void* still = nullptr;
        if (status != BIPS_INVALID_ARGUMENT || bips_frame_data(c(), &still, nullptr) == BIPS_INVALID_ARGUMENT) {
            forget();
            handle_ = Handle(); // where that left it, as the parent's in a forked child: ended
        }
        return outcome;
    }
    void release() noexcept {
        forget();
        handle_ = Handle();
    }

#ifdef BIPS_EXCEPTIONS
    template <class T> View<const T> as() const& { return try_as<T>().value(); }
    void copy(void* to, std::size_t size, std::size_t offset = 0) const { try_copy(to, size, offset).value(); }
    Fd fd() const { return try_fd().value(); }
    PrivateView private_view() const { return try_private_view().value(); }
    DLManagedTensorVersioned* dlpack(int plane = -1) const { return try_dlpack(plane).value(); }
    DLManagedTensor* dlpack_legacy(int plane = -1) const { return try_dlpack_legacy(plane).value(); }
    void release(const bips_fence& done) { try_release(done).value(); }
#endif

#ifdef BIPS_OPENCV
    /// A matrix over the same memory, of rows x columns with channels: OpenCV knows no read-only memory, so do not write.
    Result<cv::Mat> try_mat() const& { return content().try_mat(const_cast<std::byte*>(data())); }
    /// Of one plane, with a column for each of its elements.
    Result<cv::Mat> try_mat(std::size_t plane) const& { return content().try_mat(const_cast<std::byte*>(data()), plane); }
    Result<cv::Mat> try_mat() const&& = delete;
    Result<cv::Mat> try_mat(std::size_t plane) const&& = delete;
#ifdef BIPS_EXCEPTIONS
    cv::Mat mat() const& { return try_mat().value(); }
    cv::Mat mat(std::size_t plane) const& { return try_mat(plane).value(); }
    cv::Mat mat() const&& = delete;
    cv::Mat mat(std::size_t plane) const&& = delete;
#endif
#endif

    View<const std::byte> bytes() const&& = delete;
    View<const std::byte> metadata() const&& = delete;
    Result<Plane<const std::byte>> try_plane(std::size_t i) const&& = delete;
    Plane<const std::byte> plane(std::size_t i) const&& = delete;
    template <class T> Result<View<const T>> try_as() const&& = delete;
#ifdef BIPS_EXCEPTIONS
    template <class T> View<const T> as() const&& = delete;
#endif

    explicit operator bool() const noexcept { return handle_.get() != nullptr; }
    bips_frame* c() const noexcept { return handle_.get(); }

private:
    friend class Consumer;
    using Handle = detail::Handle<bips_frame, detail::release_frame>;
    enum : int { unknown, being_noted, noted };

    Frame(bips_frame* frame, const void* data, std::size_t nbytes) noexcept
        : handle_(frame), data_(data), nbytes_(nbytes) {}
    void forget() noexcept {
        data_ = nullptr;
        nbytes_ = 0;
        // Whoever moves or ends a frame is alone with it.
        info_state_.store(unknown, std::memory_order_relaxed);
    }

    static std::chrono::nanoseconds ns(std::uint64_t ns) { return std::chrono::nanoseconds(static_cast<std::int64_t>(ns)); }

    /// Reads what there is to know of the frame. The first who asks notes it for those after; whoever comes meanwhile asks
    /// the library too and waits for nobody. `read` must give a value, nothing that points into what it is given.
    template <class Read> std::invoke_result_t<Read, const bips_frame_info&> ask(Read read) const {
        // Acquires what the release below published: all of info_.
        if (info_state_.load(std::memory_order_acquire) == noted) return read(info_);
        auto info = bips_frame_info_init();
        if (c() == nullptr || bips_frame_get_info(c(), &info) != BIPS_OK) return read(bips_frame_info_init());
        int state = unknown;
        // Only chooses who writes; nothing is read under it.
        if (info_state_.compare_exchange_strong(state, being_noted, std::memory_order_relaxed)) {
            info_ = info;
            info_state_.store(noted, std::memory_order_release);
        }
        return read(info);
    }

    Handle handle_;
    const void* data_ = nullptr;
    std::size_t nbytes_ = 0;
    mutable std::atomic<int> info_state_{unknown};
    mutable bips_frame_info info_; // once noted
};

BIPS_NAMESPACE_END

#endif // BIPS_FRAME_HPP
