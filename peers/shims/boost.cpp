// Boost.Interprocess message_queue: one queue per direction.
#include "shim.h"

#include <boost/date_time/posix_time/posix_time_types.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <memory>
#include <string>

namespace ipc = boost::interprocess;
namespace pt = boost::posix_time;

namespace {
struct End {
    std::string names[2];
    std::unique_ptr<ipc::message_queue> out, in;
    size_t size;
    bool spin, first;
};

// Failed attempts after which a call that spins gives up.
constexpr long max_tries = 100000000;

pt::ptime deadline() { return pt::microsec_clock::universal_time() + pt::seconds(10); }

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}
} // namespace

void *boost_open(const char *name, const char *, int first, size_t size, size_t depth, int spin) try {
    auto end = std::make_unique<End>();
    end->names[0] = std::string(name) + "-a";
    end->names[1] = std::string(name) + "-b";
    end->size = size;
    end->spin = spin;
    end->first = first;
    auto open = [&](int which) {
        return std::make_unique<ipc::message_queue>(ipc::open_or_create, end->names[which].c_str(), depth, size);
    };
    end->out = open(first ? 0 : 1);
    end->in = open(first ? 1 : 0);
    return end.release();
} catch (...) {
    return nullptr;
}

int boost_send(void *handle, const void *data, size_t len) try {
    auto *end = static_cast<End *>(handle);
    if (!end->spin)
        return end->out->timed_send(data, len, 0, deadline()) ? 0 : -1;
    for (long tries = 0; !end->out->try_send(data, len, 0); tries++) {
        if (tries > max_tries)
            return -1;
        relax();
    }
    return 0;
} catch (...) {
    return -1;
}

int boost_receive(void *handle, void *data, size_t len) try {
    auto *end = static_cast<End *>(handle);
    ipc::message_queue::size_type received = 0;
    unsigned priority = 0;
    if (!end->spin)
        return end->in->timed_receive(data, end->size, received, priority, deadline()) && received == len ? 0 : -1;
    for (long tries = 0; !end->in->try_receive(data, end->size, received, priority); tries++) {
        if (tries > max_tries)
            return -1;
        relax();
    }
    return received == len ? 0 : -1;
} catch (...) {
    return -1;
}

void boost_close(void *handle) {
    auto *end = static_cast<End *>(handle);
    if (end->first) {
        ipc::message_queue::remove(end->names[0].c_str());
        ipc::message_queue::remove(end->names[1].c_str());
    }
    delete end;
}
