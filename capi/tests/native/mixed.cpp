// Files of one program that have exceptions and files that have none (mixed.cc, which is linked first): each has its own
// functions of the header, also where the linker joins functions of the same name.
#include "check.h"

#include <bips.hpp>

#include <cstdint>

const char* without_exceptions();

namespace {

void an_error_is_thrown_where_there_are_exceptions() {
#ifndef BIPS_EXCEPTIONS
#error "this file has exceptions"
#endif
    int& (bips::Result<int>::*volatile value)() & = &bips::Result<int>::value; // a call that can't be inlined
    bips::Result<int> none(BIPS_LOST, "none");
    bips_status thrown = BIPS_OK;
    try {
        (none.*value)();
    } catch (const bips::Error& error) {
        thrown = error.status();
    }
    CHECK(thrown == BIPS_LOST);
}

void the_other_file_uses_the_same_stream() {
    bips::Producer producer("mixed", bips::bytes(16));
    CHECK(std::strcmp(without_exceptions(), "ok") == 0);
}

} // namespace

int main() {
    if (check_begin() != 0) return 1;
    CASE(an_error_is_thrown_where_there_are_exceptions);
    CASE(the_other_file_uses_the_same_stream);
    return check_end();
}
