/* Prints the sizes and offsets that the C compiler uses. */
#include <messageport.h>

#include <stdio.h>

#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define FIELD(type, field) printf(#type "." #field " %zu\n", offsetof(type, field))

int main(void)
{
    SIZE(msgport_code);
    SIZE(msgport_channel_options);
    FIELD(msgport_channel_options, size);
    FIELD(msgport_channel_options, capacity);
    FIELD(msgport_channel_options, max_capacity);
    FIELD(msgport_channel_options, max_message_len);
    FIELD(msgport_channel_options, cached_bytes);
    FIELD(msgport_channel_options, cached_buffers);
    FIELD(msgport_channel_options, max_handles);
    FIELD(msgport_channel_options, flags);
    FIELD(msgport_channel_options, reserved);
    FIELD(msgport_channel_options, name);
    SIZE(msgport_item);
    FIELD(msgport_item, kind);
    FIELD(msgport_item, reserved);
    FIELD(msgport_item, of);
    SIZE(msgport_bytes);
    FIELD(msgport_bytes, data);
    FIELD(msgport_bytes, len);
    SIZE(msgport_queued);
    FIELD(msgport_queued, size);
    FIELD(msgport_queued, bytes);
    FIELD(msgport_queued, capacity);
    FIELD(msgport_queued, high_water);
    FIELD(msgport_queued, max_message_len);
    FIELD(msgport_queued, max_inline_len);
    FIELD(msgport_queued, transferred);
    SIZE(msgport_portset_event);
    FIELD(msgport_portset_event, port);
    FIELD(msgport_portset_event, code);
    FIELD(msgport_portset_event, reserved);
    SIZE(msgport_spawn_options);
    FIELD(msgport_spawn_options, size);
    FIELD(msgport_spawn_options, environment);
    FIELD(msgport_spawn_options, directory);
    FIELD(msgport_spawn_options, input);
    FIELD(msgport_spawn_options, output);
    FIELD(msgport_spawn_options, error);
    FIELD(msgport_spawn_options, reserved);
    SIZE(msgport_listen_options);
    FIELD(msgport_listen_options, size);
    FIELD(msgport_listen_options, greeting_timeout);
    FIELD(msgport_listen_options, flags);
    FIELD(msgport_listen_options, mode);
    FIELD(msgport_listen_options, group);
    FIELD(msgport_listen_options, reserved);
    SIZE(msgport_connect_options);
    FIELD(msgport_connect_options, size);
    FIELD(msgport_connect_options, timeout);
    FIELD(msgport_connect_options, flags);
    FIELD(msgport_connect_options, reserved);
    FIELD(msgport_connect_options, channel);
    SIZE(msgport_peer);
    FIELD(msgport_peer, uid);
    FIELD(msgport_peer, pid);
    FIELD(msgport_peer, has_pid);
    return 0;
}
