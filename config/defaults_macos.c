#include "config/defaults.h"

const char defaults_network[] = "unix:/var/run/socket_vmnet";
const char defaults_usage[] =
    "forwarder -n unix:/var/run/socket_vmnet -- vfkit ... "
    "--device virtio-net,fd={fd}";
const char defaults_example[] =
    "Example, a virtual machine on socket_vmnet:\n"
    "  forwarder -n unix:/var/run/socket_vmnet -- \\\n"
    "      vfkit ... --device virtio-net,fd={fd}\n";
