// The part of mixed.cpp that is compiled without exceptions.
#include <bips.hpp>

#ifdef BIPS_EXCEPTIONS
#error "this file has no exceptions"
#endif

const char* without_exceptions();

const char* without_exceptions() {
    int& (bips::Result<int>::*volatile value)() & = &bips::Result<int>::value;
    bips::Result<int> five(5);
    if ((five.*value)() != 5) return "a value is one";
    static std::string why;
    auto consumer = bips::Consumer::try_connect("mixed");
    if (!consumer) return why = consumer.message(), why.c_str();
    return consumer->try_receive(bips::now).status() == BIPS_TIMEOUT ? "ok" : "nothing was published";
}
