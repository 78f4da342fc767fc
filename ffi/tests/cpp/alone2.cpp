#include <messageport.hpp>

#include <messageport.h>

bool works_elsewhere();

bool works_elsewhere()
{
    auto channel = messageport::channel::make();
    return channel && channel->port1.post_message("x") && channel->port2.recv();
}
