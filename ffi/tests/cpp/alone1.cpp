#include <messageport.hpp>
#include <messageport.hpp>

bool works_elsewhere();

int main()
{
    auto channel = messageport::channel::make();
    return channel && channel->port1.post_message("x") && channel->port2.recv() && works_elsewhere() ? 0 : 1;
}
