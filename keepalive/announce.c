#include "keepalive/announce.h"

#include <string.h>

void
announce_write(uint8_t frame[ANNOUNCEMENT_BYTES], const uint8_t guest_mac[6])
{
	static const uint8_t body[] = {
		0x80, 0x35, /* EtherType RARP */
		0x00, 0x01, /* hardware: Ethernet */
		0x08, 0x00, /* protocol: IPv4 */
		6, 4,       /* their address lengths */
		0x00, 0x03, /* operation: request reverse */
	};

	memset(frame, 0, ANNOUNCEMENT_BYTES);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, guest_mac, 6);
	memcpy(frame + 12, body, sizeof(body));
	memcpy(frame + 22, guest_mac, 6); /* sender: hardware, protocol 0 */
	memcpy(frame + 32, guest_mac, 6); /* target: hardware, protocol 0 */
}
