// A message in C++. header.rs compares the object with that of overhead.c.
#include <messageport.hpp>

namespace mp = messageport;

bool once(mp::port_ref port, mp::message &message, const void *data, std::size_t size);

bool once(mp::port_ref port, mp::message &message, const void *data, std::size_t size)
{
    if (!port.post_message({data, size})) return false;
    auto received = port.recv_into(message);
    return received && received->size() == size;
}
