/* The RARP broadcast that tells switches where the guest is now. Pure bytes. */
#ifndef KEEPALIVE_ANNOUNCE_H
#define KEEPALIVE_ANNOUNCE_H

#include <stdint.h>

#define ANNOUNCEMENT_BYTES 60

/* "Request reverse" (RFC 903) for the guest's own address, as QEMU sends it
 * after a migration: every switch on the way learns, nobody answers. */
void announce_write(
    uint8_t frame[ANNOUNCEMENT_BYTES], const uint8_t guest_mac[6]);

#endif
