// What this translation unit has: exceptions, OpenCV. Included by the other files of this folder; include bips.hpp.
#ifndef BIPS_CONFIG_HPP
#define BIPS_CONFIG_HPP

#include "../bips.h"

#if !defined(BIPS_NO_EXCEPTIONS) && defined(__cpp_exceptions)
#define BIPS_EXCEPTIONS 1
#endif

#if !defined(BIPS_NO_OPENCV) && defined(__has_include)
#if __has_include(<opencv2/core/mat.hpp>)
#define BIPS_OPENCV 1
#endif
#endif

// Files of one program may differ in these, and then mean other functions by the same names: the linker must not take
// one file's for another's. So the names are within a namespace that says which they are, and are written without it.
#if defined(BIPS_EXCEPTIONS) && defined(BIPS_OPENCV)
#define BIPS_VARIANT throwing_opencv
#elif defined(BIPS_EXCEPTIONS)
#define BIPS_VARIANT throwing
#elif defined(BIPS_OPENCV)
#define BIPS_VARIANT unthrowing_opencv
#else
#define BIPS_VARIANT unthrowing
#endif

#define BIPS_NAMESPACE_BEGIN \
    namespace bips {         \
    inline namespace BIPS_VARIANT {
#define BIPS_NAMESPACE_END \
    }                      \
    }

#endif // BIPS_CONFIG_HPP
