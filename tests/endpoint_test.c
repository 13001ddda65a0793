#include "reconnect/endpoint.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/suite.h"

static struct endpoint endpoint;
static struct error why;

static const struct {
	const char *text;
	enum endpoint_kind kind;
	bool listens;
	const char *path, *host, *port;
} good[] = {
	{ "unix:/run/daemon.sock", ENDPOINT_UNIX, false, "/run/daemon.sock", "",
	    "" },
	{ "unix:daemon.sock", ENDPOINT_UNIX, false, "daemon.sock", "", "" },
	{ "unix:/with space:and colon", ENDPOINT_UNIX, false,
	    "/with space:and colon", "", "" },
	{ "listen-unix:/run/x", ENDPOINT_UNIX, true, "/run/x", "", "" },
	{ "tcp:host:1", ENDPOINT_TCP, false, "", "host", "1" },
	{ "tcp:127.0.0.1:65535", ENDPOINT_TCP, false, "", "127.0.0.1",
	    "65535" },
	{ "tcp:[::1]:7000", ENDPOINT_TCP, false, "", "::1", "7000" },
	{ "tcp:[fe80::1%eth0]:7000", ENDPOINT_TCP, false, "", "fe80::1%eth0",
	    "7000" },
	{ "listen-tcp:0.0.0.0:80", ENDPOINT_TCP, true, "", "0.0.0.0", "80" },
	{ "listen-tcp:[::]:80", ENDPOINT_TCP, true, "", "::", "80" },
	{ "listen-tcp:[fe80::1%eth0]:80", ENDPOINT_TCP, true, "",
	    "fe80::1%eth0", "80" },
	{ "listen-tcp:localhost:80", ENDPOINT_TCP, true, "", "127.0.0.1",
	    "80" },
	{ "tcp:localhost:80", ENDPOINT_TCP, false, "", "localhost", "80" },
};

TEST(a_good_endpoint_is_taken_apart, .count = LENGTH(good))
{
	ck_assert_int_eq(endpoint_parse(&endpoint, good[_i].text, &why), 0);
	ck_assert_int_eq(endpoint.kind, good[_i].kind);
	ck_assert_int_eq(endpoint.listens, good[_i].listens);
	ck_assert_str_eq(endpoint.path, good[_i].path);
	ck_assert_str_eq(endpoint.host, good[_i].host);
	ck_assert_str_eq(endpoint.port, good[_i].port);
}

/* What the sentence must speak of. */
static const struct {
	const char *text, *about;
} bad[] = {
	{ "", "none of" },
	{ "/run/daemon.sock", "none of" },
	{ "unix", "none of" },
	{ "UNIX:/run/x", "none of" },
	{ " unix:/run/x", "none of" },
	{ "fd:3", "none of" },
	{ "http://host:80", "none of" },
	{ "unix:", "path is missing" },
	{ "listen-unix:", "path is missing" },
	{ "tcp:", "port is missing" },
	{ "tcp:host", "port is missing" },
	{ "tcp:[::1]", "IPv6" },
	{ "tcp:[::1", "IPv6" },
	{ "tcp:[::1]7000", "IPv6" },
	{ "tcp:::1:7000", "IPv6" },
	{ "tcp:fe80::1:7000", "IPv6" },
	{ "tcp::80", "host is missing" },
	{ "tcp:[]:80", "host is missing" },
	{ "listen-tcp::80", "host is missing" },
	{ "listen-tcp:some.example:80", "an address, not a name" },
	{ "listen-tcp:localhost.example:80", "an address, not a name" },
	{ "listen-tcp:127.1:80", "an address, not a name" },
	{ "listen-tcp:127.0.0.1%lo:80", "an address, not a name" },
	{ "listen-tcp:2130706433:80", "an address, not a name" },
	{ "tcp:host:", "port is not" },
	{ "tcp:[::1]:", "port is not" },
	{ "tcp:host:0", "port is not" },
	{ "tcp:host:00000", "port is not" },
	{ "tcp:host:65536", "port is not" },
	{ "tcp:host:99999", "port is not" },
	{ "tcp:host:4294967376", "port is not" },
	{ "tcp:host:-1", "port is not" },
	{ "tcp:host:+80", "port is not" },
	{ "tcp:host: 80", "port is not" },
	{ "tcp:host:80 ", "port is not" },
	{ "tcp:host:0x50", "port is not" },
	{ "tcp:host:http", "port is not" },
	{ "tcp:[::1]:80:90", "port is not" },
};

TEST(a_bad_endpoint_is_refused_with_a_sentence, .count = LENGTH(bad))
{
	why.text[0] = '\0';
	ck_assert_int_eq(endpoint_parse(&endpoint, bad[_i].text, &why), -1);
	ck_assert_msg(strstr(why.text, bad[_i].about),
	    "\"%s\" does not speak of %s", why.text, bad[_i].about);
}

TEST(a_path_as_long_as_a_socket_allows_is_taken)
{
	char text[sizeof(endpoint.path) + 5] = "unix:";

	memset(text + 5, 'x', sizeof(endpoint.path) - 1);
	ck_assert_int_eq(endpoint_parse(&endpoint, text, &why), 0);
	ck_assert_uint_eq(strlen(endpoint.path), sizeof(endpoint.path) - 1);
}

TEST(a_path_one_byte_longer_is_refused_with_the_limit)
{
	char text[sizeof(endpoint.path) + 6] = "unix:";
	char limit[32];

	memset(text + 5, 'x', sizeof(endpoint.path));
	snprintf(limit, sizeof(limit), "%zu bytes", sizeof(endpoint.path) - 1);
	ck_assert_int_eq(endpoint_parse(&endpoint, text, &why), -1);
	ck_assert_ptr_nonnull(strstr(why.text, limit));
}

/* DNS allows 253 bytes; what is longer than the field must not be cut. */
TEST(a_host_too_long_for_a_name_is_refused)
{
	char text[4 + 300 + 8] = "tcp:";

	memset(text + 4, 'x', 255);
	memcpy(text + 4 + 255, ":80", 4);
	ck_assert_int_eq(endpoint_parse(&endpoint, text, &why), 0);
	ck_assert_uint_eq(strlen(endpoint.host), 255);
	memset(text + 4, 'x', 256);
	memcpy(text + 4 + 256, ":80", 4);
	ck_assert_int_eq(endpoint_parse(&endpoint, text, &why), -1);
	ck_assert_ptr_nonnull(strstr(why.text, "longer"));
}
