// Two processes: the parent posts a message, the child posts it back. c++ -std=c++17 echo.cpp -lmessageport
#include <iostream>
#include <messageport.hpp>
#include <sys/wait.h>

int main()
{
    if (auto parent = messageport::parent_port()) { // the child: until the parent closes its port
        for (auto &message : parent->messages()) parent->post_message(message.data()).value();
        return 0;
    }
    auto [port, theirs] = messageport::channel::make().value();
    const int child = messageport::spawn_with_port("/proc/self/exe", {}, theirs).value();
    port.post_message("hello").value();
    std::cout << port.recv().value().text() << '\n';
    port.close();
    return waitpid(child, nullptr, 0) == child ? 0 : 1;
}
