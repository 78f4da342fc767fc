// `pingpong ping|pong CPU`: one of the two processes that pingpong.rs measures.
#include <messageport.hpp>

#include <array>
#include <sched.h>

namespace mp = messageport;
using clock_type = std::chrono::steady_clock;

static void ping(mp::port_ref control, mp::port_ref port)
{
    std::array<unsigned char, 64> data{};
    mp::message echo;
    for (auto &order : control.messages()) {
        const auto trips = order.as<std::uint64_t>().value();
        const auto start = clock_type::now();
        for (std::uint64_t trip = 0; trip < trips; trip++) {
            data[0] = static_cast<unsigned char>(trip);
            port.post_message(data).value();
            const auto seen = port.recv_into(echo).value();
            if (seen.size() != data.size() || seen[0] != std::byte{data[0]}) std::exit(1);
        }
        const std::uint64_t took = static_cast<std::uint64_t>((clock_type::now() - start) / std::chrono::nanoseconds(1));
        control.post_message(mp::bytes_of(took)).value();
    }
}

static void pong(mp::port_ref port)
{
    mp::message message;
    while (auto data = port.recv_into(message)) port.post_message(*data).value();
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(std::atoi(argv[2]), &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    auto control = mp::parent_port().value();
    auto port = control.recv().value().take_port().value();
    port.set_spin(std::chrono::microseconds(200));
    if (std::string_view(argv[1]) == "ping") ping(control, port);
    else pong(port);
}
