#include "reconnect/endpoint.h"

#include "tests/support/suite.h"

static struct endpoint endpoint;
static struct error why;

static const struct {
	const char *text, *parts;
} good[] = {
	{ "unix:/run/daemon.sock", "/run/daemon.sock" },
	{ "unix:/with space:and colon", "/with space:and colon" },
	{ "listen-unix:/run/x", "listens /run/x" },
	{ "unixgram:/run/x", "datagrams /run/x" },
	{ "tcp:host:1", "host 1" },
	{ "tcp:127.0.0.1:65535", "127.0.0.1 65535" },
	{ "tcp:[::1]:7000", "::1 7000" },
	{ "tcp:[fe80::1%eth0]:7000", "fe80::1%eth0 7000" },
	{ "listen-tcp:0.0.0.0:80", "listens 0.0.0.0 80" },
	{ "listen-tcp:[::]:80", "listens :: 80" },
	{ "listen-tcp:[fe80::1%eth0]:80", "listens fe80::1%eth0 80" },
	{ "listen-tcp:127.9.9.9:80", "listens on loopback 127.9.9.9 80" },
	{ "listen-tcp:128.0.0.1:80", "listens 128.0.0.1 80" },
	{ "listen-tcp:[::1]:80", "listens on loopback ::1 80" },
	{ "listen-tcp:[::2]:80", "listens ::2 80" },
	{ "listen-tcp:localhost:80", "listens on loopback 127.0.0.1 80" },
	{ "exec:passt --fd {fd}", "passt --fd {fd}" },
	{ "exec-dgram:x {fd}", "datagrams x {fd}" },
	{ "exec:'a b' -l \"unix:{socket}\"", "'a b' -l \"unix:{socket}\"" },
};

TEST(a_good_endpoint_is_parsed, .count = LENGTH(good))
{
	char parts[1024];

	ck_assert_int_eq(endpoint_parse(&endpoint, good[_i].text, &why), 0);
	snprintf(parts, sizeof(parts), "%s%s%s%s%s%s%s%s",
	    endpoint.datagrams ? "datagrams " : "",
	    endpoint.listens ? "listens " : "",
	    endpoint.loopback ? "on loopback " : "", endpoint.path,
	    endpoint.host, endpoint.kind == ENDPOINT_TCP ? " " : "",
	    endpoint.port, endpoint.command);
	ck_assert_str_eq(parts, good[_i].parts);
	ck_assert_str_eq(endpoint.text, good[_i].text);
}

/* A word that the reason must contain. */
static const struct {
	const char *text, *about;
} bad[] = {
	{ "", "must begin" },
	{ "/run/daemon.sock", "must begin" },
	{ "UNIX:/run/x", "must begin" },
	{ "fd:3", "must begin" },
	{ "unix:", "path is missing" },
	{ "listen-unix:", "path is missing" },
	{ "tcp:", "port is missing" },
	{ "tcp:host", "port is missing" },
	{ "tcp:[::1]", "IPv6" },
	{ "tcp:[::1]7000", "IPv6" },
	{ "tcp:::1:7000", "IPv6" },
	{ "tcp::80", "host is missing" },
	{ "tcp:[]:80", "host is missing" },
	{ "listen-tcp::80", "host is missing" },
	{ "listen-tcp:some.example:80", "an address, not a name" },
	{ "listen-tcp:127.1:80", "an address, not a name" },
	{ "listen-tcp:127.0.0.1%lo:80", "an address, not a name" },
	{ "tcp:host:", "port is not" },
	{ "tcp:host:0", "port is not" },
	{ "tcp:host:65536", "port is not" },
	{ "tcp:host:4294967376", "port is not" },
	{ "tcp:host:-1", "port is not" },
	{ "tcp:host: 80", "port is not" },
	{ "tcp:host:80 ", "port is not" },
	{ "tcp:host:0x50", "port is not" },
	{ "tcp:[::1]:80:90", "port is not" },
	{ "exec:", "the command is missing" },
	{ "exec: \t", "the command is missing" },
	{ "exec:passt", "needs {fd}" },
	{ "exec:x {fd} {socket}", "not both" },
	{ "exec:x '{fd}", "a quote (') is not closed" },
};

TEST(a_bad_endpoint_is_refused_with_a_reason, .count = LENGTH(bad))
{
	why.text[0] = '\0';
	ck_assert_int_eq(endpoint_parse(&endpoint, bad[_i].text, &why), -1);
	ck_assert_msg(strstr(why.text, bad[_i].about),
	    "\"%s\" does not speak of %s", why.text, bad[_i].about);
}

/* The limits are those of a socket and of DNS (253 bytes). */
static const struct {
	const char *start, *end, *about;
	size_t most;
} lengths[] = {
	{ "unix:", "", "longer than a socket allows (10",
	    sizeof(endpoint.path) - 1 },
	{ "tcp:", ":80", "the host name is too long",
	    sizeof(endpoint.host) - 1 },
	{ "exec:", " {fd}", "the command is longer than 255 bytes",
	    sizeof(endpoint.command) - 1 - strlen(" {fd}") },
};

TEST(the_longest_path_and_host_are_accepted, .count = LENGTH(lengths))
{
	char name[400] = { 0 }, text[420];

	memset(name, 'x', lengths[_i].most);
	snprintf(text, sizeof(text), "%s%s%s", lengths[_i].start, name,
	    lengths[_i].end);
	ck_assert_int_eq(endpoint_parse(&endpoint, text, &why), 0);
	ck_assert(strncmp(_i == 0   ? endpoint.path
			  : _i == 1 ? endpoint.host
				    : endpoint.command,
		      name, lengths[_i].most) == 0);
	ck_assert_str_eq(endpoint.text, text);
	snprintf(text, sizeof(text), "%s%sx%s", lengths[_i].start, name,
	    lengths[_i].end);
	ck_assert_int_eq(endpoint_parse(&endpoint, text, &why), -1);
	ck_assert_ptr_nonnull(strstr(why.text, lengths[_i].about));
}

/* The text may differ: for a listener localhost is 127.0.0.1. */
TEST(endpoints_are_equal_if_they_name_the_same_address)
{
	static const char *const texts[] = { "exec:a {fd}", "exec:b {fd}",
		"exec-dgram:b {fd}", "unix:/a", "unix:/b", "listen-unix:/a",
		"tcp:a:1", "tcp:b:1", "tcp:a:2", "listen-tcp:127.0.0.1:1",
		"listen-tcp:localhost:1" };
	struct endpoint other;

	for (int i = 0; i < LENGTH(texts); i++)
		for (int j = 0; j < LENGTH(texts); j++) {
			endpoint_parse(&endpoint, texts[i], &why);
			endpoint_parse(&other, texts[j], &why);
			ck_assert_int_eq(endpoint_equals(&endpoint, &other),
			    i == j || i + j == 19);
		}
}
