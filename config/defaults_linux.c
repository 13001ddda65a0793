#include "config/defaults.h"

const char defaults_network[] = "";
const char defaults_usage[] =
    "forwarder -n unix:$XDG_RUNTIME_DIR/passt.sock -- qemu-system-x86_64 ... "
    "-netdev dgram,id=n0,local.type=fd,local.str={fd}";
const char defaults_example[] =
    "Example, a virtual machine on passt:\n"
    "  passt --foreground --socket $XDG_RUNTIME_DIR/passt.sock\n"
    "  forwarder -n unix:$XDG_RUNTIME_DIR/passt.sock -- \\\n"
    "      qemu-system-x86_64 ... -device virtio-net-pci,netdev=n0 \\\n"
    "      -netdev dgram,id=n0,local.type=fd,local.str={fd}\n";
