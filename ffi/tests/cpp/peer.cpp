// The child of an interoperation test; see peer.c.
#include "../c/check.h"

#include <messageport.hpp>

#include <vector>

namespace mp = messageport;

int main()
{
    alarm(100);
    auto parent = mp::parent_port().value();
    std::vector<mp::port> held;
    auto messages = parent.messages();
    for (auto &message : messages) {
        std::vector<mp::port> ports;
        std::vector<mp::buffer> buffers;
        for (std::size_t i = 0; i < message.ports(); i++) ports.push_back(message.take_port(i).value());
        for (std::size_t i = 0; i < message.buffers(); i++) buffers.push_back(message.take_buffer(i).value());
        if (message.text() == "die") {
            raise(SIGKILL);
        } else if (message.text() == "use") {
            buffers[0].write_at(0, "seen").value();
            ports[0].post_message("from the peer", {buffers[0]}).value();
        } else if (message.text() == "hold") {
            held.push_back(std::move(ports[0]));
            parent.post_message("held").value();
        } else {
            std::vector<mp::item> items;
            for (auto &port : ports) items.emplace_back(port);
            for (auto &buffer : buffers) items.emplace_back(buffer);
            parent.post_message_wait(message.data(), {items.data(), items.size()}).value();
        }
    }
    std::printf("ended by %s\n", messages.reason().name());
}
