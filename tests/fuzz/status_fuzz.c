/* Feeds a hostile reply to the reader of statuses. One that is accepted must be
 * read back from what is written of it, the same. */
#include <stdlib.h>
#include <string.h>

#include "status/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
write_json(char bytes[STATUS_BYTES], const struct status *s)
{
	struct text t = text_in(bytes, STATUS_BYTES);

	status_json(&t, s);
	if (t.cut)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char reply[STATUS_BYTES], once[STATUS_BYTES],
	    twice[STATUS_BYTES];
	static struct status s;

	if (size >= sizeof(reply))
		return 0;
	memcpy(reply, data, size);
	reply[size] = '\0';
	if (!status_parse(&s, reply))
		return 0;
	write_json(once, &s);
	if (!status_parse(&s, once))
		abort();
	write_json(twice, &s);
	if (strcmp(once, twice) != 0)
		abort();
	return 0;
}
