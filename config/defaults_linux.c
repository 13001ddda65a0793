#include "config/defaults.h"

const char defaults_network[] = "";
const char defaults_usage[] =
    "forwarder -n 'exec:passt --foreground --fd {fd}' -- "
    "qemu-system-x86_64 ... -netdev dgram,id=n0,local.type=fd,local.str={fd}";
const char defaults_example[] =
    "Example, a virtual machine on passt:\n"
    "  forwarder -n 'exec:passt --foreground --fd {fd}' -- \\\n"
    "      qemu-system-x86_64 ... -device virtio-net-pci,netdev=n0 \\\n"
    "      -netdev dgram,id=n0,local.type=fd,local.str={fd}\n";
