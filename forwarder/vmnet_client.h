/* The program called as socket_vmnet_client: this process becomes the command, as
 * with the program of that name in lima-vm/socket_vmnet, and a copy of it in the
 * background is the forwarder. The command thus has its caller's process number,
 * terminal, signals and exit status, and may go into the background itself, as
 * QEMU does with -daemonize. The forwarder ends when nobody has the other end of
 * the command's socket any more. */
#ifndef FORWARDER_VMNET_CLIENT_H
#define FORWARDER_VMNET_CLIENT_H

#include <stdbool.h>

#include "config/options.h"

/* Starts the forwarder, and executes the command once that is ready; the daemon
 * may be absent. Returns true in the forwarder's process, where the rest of main()
 * follows; its guest is the descriptor that options_parse() has named. Returns
 * false with an exit status if the command could not be started. */
bool vmnet_client_split(
    struct options *options, struct config *config, int *status);

#endif
