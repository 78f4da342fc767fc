#include <messageport.h>
#include <messageport.h>

msgport_item item1(msgport_port *port);

msgport_item item1(msgport_port *port)
{
    return msgport_item_port(port);
}
