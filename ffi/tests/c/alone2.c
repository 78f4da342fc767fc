#include <messageport.h>
#include <messageport.h>

msgport_item item2(msgport_port *port);

msgport_item item2(msgport_port *port)
{
    return msgport_item_port(port);
}
