#include "config/defaults.h"

const char defaults_network[] = "unix:/var/run/socket_vmnet";
const char defaults_guest_example[] = "unixgram:$TMPDIR/vm1-net.sock";
const char defaults_network_example[] = "unix:/var/run/socket_vmnet";
const char defaults_guests[] = "fd:N or unixgram:PATH";
const char defaults_usage[] =
    "forwarder -n unix:/var/run/socket_vmnet -- vfkit ... "
    "--device virtio-net,fd={fd}";
const char defaults_example[] =
    "Example, a virtual machine on socket_vmnet:\n"
    "  forwarder -n unix:/var/run/socket_vmnet -- \\\n"
    "      vfkit ... --device virtio-net,fd={fd}\n";
