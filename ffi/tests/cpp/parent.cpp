// The parent of an interoperation test; see parent.c.
#include "../c/check.h"

#include <messageport.hpp>

namespace mp = messageport;
using namespace std::chrono_literals;

int main(int argc, char **argv)
{
    alarm(100);
    CHECK(argc > 2);
    auto [port, theirs] = mp::channel::make().value();
    const int pid = mp::spawn_with_port(argv[2], argv + 2, theirs).value();

    // Echoed.
    auto [near, far] = mp::channel::make().value();
    auto sent = mp::buffer::make(1 << 20).value();
    sent.write_at((1 << 20) - 6, "inside").value();
    port.post_message("echo", {far, sent}).value();
    auto echo = port.recv_for(20s).value();
    CHECK(echo.text() == "echo");
    auto arrived = echo.take_port().value();
    auto buffer = echo.take_buffer().value();
    arrived.post_message("entangled").value();
    CHECK(near.recv_for(20s).value().text() == "entangled");
    CHECK(buffer.size() == 1 << 20 && std::memcmp(buffer.data().data() + buffer.size() - 6, "inside", 6) == 0);

    // Used by the child.
    port.post_message("use", {arrived, buffer}).value();
    auto used = near.recv_for(20s).value();
    CHECK(used.text() == "from the peer");
    CHECK(std::memcmp(used.take_buffer().value().data().data(), "seen", 4) == 0);
    CHECK(near.recv_for(20s).error() == MSGPORT_PEER_CLOSED);

    // Many, in order.
    mp::message message;
    for (std::uint32_t out = 0, in = 0; in < 5000; in++) {
        for (; out < 5000 && out < in + 500; out++) port.post_message_wait(mp::bytes_of(1000000000 + out)).value();
        port.recv_into_for(20s, message).value();
        CHECK(message.as<std::uint32_t>().value() == 1000000000 + in);
    }

    // Held by a child that dies.
    auto [here, there] = mp::channel::make().value();
    port.post_message("hold", {there}).value();
    CHECK(port.recv_for(20s).value().text() == "held");
    if (std::string_view(argv[1]) == "sleep") {
        puts("asleep");
        fflush(stdout);
        pause();
    }
    port.post_message("die").value();
    CHECK(port.recv_for(20s).error() == MSGPORT_PEER_DIED);
    CHECK(here.recv_for(20s).error() == MSGPORT_PEER_DIED);
    CHECK(waitpid(pid, nullptr, 0) == pid);
    puts("survived");
}
