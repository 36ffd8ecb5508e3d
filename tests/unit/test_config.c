/* config/: what is accepted, and for everything else the line, column, key and words of the error.
 */
#include "controlplane/config/config.h"
#include "controlplane/config/options.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define REALM  "realm: example.org\n"
#define LISTEN "listen: [{transport: udp, address: 192.0.2.1, port: 3478}]\n"
#define RELAY  "relay: {addresses: [{address: 192.0.2.1}]}\n"
#define AUTH   "auth: {users: [{name: alice, password: in-the-file}]}\n"
#define BASE   REALM LISTEN RELAY AUTH /* what is appended begins on line 5 */

#define AUTH_WITH(text)   REALM LISTEN RELAY "auth: {" text "}\n"
#define LISTEN_WITH(text) REALM "listen: [" text "]\n" RELAY AUTH
#define RELAY_WITH(text)  REALM LISTEN "relay: {" text "}\n" AUTH
#define DPDK_WITH(text)   BASE "dataplane: {dpdk: {" text "}}\n"
#define LONG_31           "1234567890123456789012345678901"
#define LONG_127          LONG_31 LONG_31 LONG_31 LONG_31 "123"

/* 32 addresses, which are all that the shared table has places for; the listener's is one of them.
 */
#define EIGHT(net)                                                                                 \
	"{address: " net ".1}, {address: " net ".2}, {address: " net ".3}, {address: " net ".4}, " \
	"{address: " net ".5}, {address: " net ".6}, {address: " net ".7}, {address: " net ".8}"
#define RELAYS_31                                                                                  \
	EIGHT("10.0.0")                                                                            \
	", " EIGHT("10.0.1") ", " EIGHT("10.0.2") ", {address: 10.0.3.1}, {address: 10.0.3.2}, "   \
						  "{address: 10.0.3.3}, {address: 10.0.3.4}, "     \
						  "{address: 10.0.3.5}, {address: 10.0.3.6}, "     \
						  "{address: 10.0.3.7}"

#define FULL                                                                                         \
	"realm: example.org\n"                                                                       \
	"listen:                          # one entry per transport address\n"                       \
	"  - {transport: udp,  address: 192.0.2.1,     port: 3478}\n"                                \
	"  - {transport: udp,  address: \"2001:db8::1\", port: 3478}\n"                              \
	"relay:\n"                                                                                   \
	"  addresses:\n"                                                                             \
	"    - {address: 192.0.2.1}\n"                                                               \
	"    - {address: 10.0.0.5, external: 203.0.113.7}\n"                                         \
	"    - {address: \"2001:db8::1\"}\n"                                                         \
	"  ports: 50000-50999\n"                                                                     \
	"  sockets: shared\n"                                                                        \
	"auth:\n"                                                                                    \
	"  users:\n"                                                                                 \
	"    - {name: alice, password: in-the-file}\n"                                               \
	"  users_file: users.yaml\n"                                                                 \
	"  secrets: [long-enough-for-anyone-1, long-enough-for-anyone-2]\n"                          \
	"  secrets_file: secrets\n"                                                                  \
	"  nonce_lifetime: 30 min\n"                                                                 \
	"peers:\n"                                                                                   \
	"  allow: [10.1.0.0/16]\n"                                                                   \
	"  deny:  [198.51.100.0/24]\n"                                                               \
	"limits:\n"                                                                                  \
	"  allocations: 200000\n"                                                                    \
	"  allocations_per_user: 20\n"                                                               \
	"  permissions_per_allocation: 128\n"                                                        \
	"  channels_per_allocation: 32\n"                                                            \
	"  bandwidth_per_allocation: 8 Mbit/s\n"                                                     \
	"  unauthenticated_replies_per_source: 50/s\n"                                               \
	"  lifetime_default: 601 s\n"                                                                \
	"  lifetime_max: 2 h\n"                                                                      \
	"  permission_lifetime: 5 min\n"                                                             \
	"  channel_lifetime: 600s\n"                                                                 \
	"compat:\n"                                                                                  \
	"  rfc5766_channels: true\n"                                                                 \
	"dataplane:\n"                                                                               \
	"  engine: xdp\n"                                                                            \
	"  interfaces: [eth0, eth1]\n"                                                               \
	"  xdp_mode: generic\n"                                                                      \
	"  flows: 4096\n"                                                                            \
	"  workers: 2\n"                                                                             \
	"  cores: [2, 3]\n"                                                                          \
	"  idle_sleep: 50 us\n"                                                                      \
	"  dpdk:\n"                                                                                  \
	"    eal: [--in-memory, --no-pci, '--vdev=net_af_packet0,iface=eth0']\n"                     \
	"    ports:\n"                                                                               \
	"      - {port: 3, exception: virtio-user, addresses: [192.0.2.1/24], gateway: 192.0.2.2,\n" \
	"         gateway6: \"fe80::1\"}\n"                                                          \
	"      - {port: 0, gateway6: \"fe80::2\"}\n"                                                 \
	"control:\n"                                                                                 \
	"  socket: /tmp/c.sock\n"                                                                    \
	"  group: staff\n"                                                                           \
	"  readonly_socket: /tmp/ro.sock\n"                                                          \
	"  readonly_group: users\n"                                                                  \
	"  workers: 1\n"                                                                             \
	"log: {level: debug, format: json}\n"

static char folder[64];

static void write_file(const char *name, const char *text, size_t len)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
	assert_int_equal(chmod(path, 0600), 0);
}

/* `error` without the folder's name. */
static int load(const char *text, size_t len, struct config **out, char error[CONFIG_ERROR_SIZE])
{
	char path[128], full[CONFIG_ERROR_SIZE];
	int err;

	write_file("t.yaml", text, len);
	snprintf(path, sizeof(path), "%s/t.yaml", folder);
	err = config_load(path, out, full);
	if (err < 0) {
		assert_memory_equal(full, folder, strlen(folder));
		snprintf(error, CONFIG_ERROR_SIZE, "%s", full + strlen(folder) + 1);
	}
	return err;
}

/* Text, and how the error begins behind the file's name; NULL: the text is fine. */
static const struct {
	const char *text, *error;
} rows[] = {
	{BASE, NULL},
	{FULL, NULL},
	{REALM LISTEN RELAY "auth: {secrets: [short]}\n", NULL},
	{BASE "limits: {lifetime_max: 1 h, lifetime_default: 3600 s}\n", NULL},
	{BASE "limits: {lifetime_default: 1 s}\n", NULL},
	{BASE "relay2: 1\n", "5:1: relay2: unknown key, did you mean relay?"},
	{"\"realm\": 'quoted'\n" LISTEN RELAY AUTH, NULL},
	{"realm: " LONG_127 "\n" LISTEN RELAY AUTH, NULL},

	/* not even YAML */
	{"", "1:1: yaml: the file is empty"},
	{"# nothing\n", "1:1: yaml: the file is empty"},
	{"realm: \"x\n", "2:1: yaml: found unexpected end of stream"},
	{REALM "listen: [\n", "3:1: yaml: did not find expected node content"},
	{REALM "  a: b\n", "2:4: yaml: mapping values are not allowed"},
	{REALM "\tlisten: x\n", "2:1: yaml: "},
	{"realm: \xff\n", "1:8: yaml: invalid leading UTF-8 octet"},
	{"realm: \x01\n", "1:8: yaml: control characters are not allowed"},
	{BASE "---\nrealm: b\n", "6:1: yaml: a second document"},
	{BASE "--- x\n...\n--- {\n", "5:5: yaml: a second document"},
	{"realm: *x\n", "1:8: yaml: found undefined alias"},

	/* shape */
	{"- a\n", "1:1: yaml: a list, expected a mapping"},
	{"just words\n", "1:1: yaml: a single value, expected a mapping"},
	{BASE "limit: {}\n", "5:1: limit: unknown key, did you mean limits?"},
	{BASE "bananas: {}\n", "5:1: bananas: unknown key, expected one of realm, listen, tls"},
	{BASE "limits:\n  allocation: 5\n", "6:3: limits.allocation: unknown key, did you mean "
					    "allocations?"},
	{BASE "limits: {x: 1}\n", "5:10: limits.x: unknown key, expected one of allocations, "},
	{BASE "realm: b\n", "5:1: realm: given twice"},
	{BASE "log: {level: info, level: info}\n", "5:20: log.level: given twice"},
	{BASE "limits: 5\n", "5:9: limits: a single value, expected a mapping"},
	{BASE "limits:\n", "5:8: limits: is empty, expected a mapping"},
	{BASE "peers: {allow: 10.0.0.0/8}\n", "5:16: peers.allow: a single value, expected a list"},
	{BASE "peers: {allow: [[a]]}\n", "5:17: peers.allow[0]: a list, expected a single value"},
	{BASE "log: {level: {a: b}}\n", "5:14: log.level: a mapping of keys to values, expected a "
					"single value"},
	{BASE "log: {level: }\n", "5:14: log.level: is empty"},
	{BASE "? [a, b]\n: c\n", "5:3: yaml: a key that is no word"},
	{BASE "log: {level: \"in\\0fo\"}\n", "5:14: log.level: holds a NUL"},
	{LISTEN_WITH("{transport: udp, addres: 192.0.2.1, port: 1}"),
		"2:27: listen[0].addres: unknown key, did you mean address?"},
	{LISTEN_WITH("{transport: udp, address:192.0.2.1, port: 1}"),
		"2:27: listen[0].address: no space behind the colon"},

	/* realm */
	{LISTEN RELAY AUTH, "1:1: realm: is missing"},
	{"realm: ''\n" LISTEN RELAY AUTH, "1:8: realm: is empty"},
	{"realm: " LONG_127 "x\n" LISTEN RELAY AUTH, "1:8: realm: is 128 bytes long, expected at "
						     "most 127"},

	/* listen */
	{REALM RELAY AUTH, "1:1: listen: is missing"},
	{REALM "listen: []\n" RELAY AUTH, "2:9: listen: is missing"},
	{LISTEN_WITH("{transport: tcp, address: 192.0.2.1, port: 3478}"),
		"2:22: listen[0].transport: tcp is not implemented yet, expected udp"},
	{LISTEN_WITH("{transport: tls, address: 192.0.2.1, port: 5349}"),
		"2:22: listen[0].transport: tls is not implemented yet"},
	{LISTEN_WITH("{transport: dtls, address: 192.0.2.1, port: 5349}"),
		"2:22: listen[0].transport: dtls is not implemented yet"},
	{LISTEN_WITH("{transport: sctp, address: 192.0.2.1, port: 5349}"),
		"2:22: listen[0].transport: \"sctp\" is unknown, expected udp"},
	{LISTEN_WITH("{transport: udp, address: 192.0.2.1}"), "2:10: listen[0]: has no port"},
	{LISTEN_WITH("{transport: udp, port: 1}"), "2:10: listen[0]: has no address"},
	{LISTEN_WITH("{address: 192.0.2.1, port: 1}"), "2:10: listen[0]: has no transport"},
	{LISTEN_WITH("{transport: udp, address: 192.0.2.1, port: 0}"),
		"2:53: listen[0].port: \"0\" is out of range, expected 1 to 65535"},
	{LISTEN_WITH("{transport: udp, address: 192.0.2.1, port: 65536}"),
		"2:53: listen[0].port: \"65536\" is out of range"},
	{LISTEN_WITH("{transport: udp, address: 192.0.2.1, port: 0x10}"),
		"2:53: listen[0].port: \"0x10\" is not a whole number"},
	{LISTEN_WITH("{transport: udp, address: 192.0.2.1, port: -1}"),
		"2:53: listen[0].port: \"-1\" is not a whole number"},
	{LISTEN_WITH("{transport: udp, address: 192.0.2.1, port: 18446744073709551617}"),
		"2:53: listen[0].port: \"18446744073709551617\" is out of range"},
	{LISTEN_WITH("{transport: udp, address: example.org, port: 1}"),
		"2:36: listen[0].address: \"example.org\" is no address"},
	{LISTEN_WITH("{transport: udp, address: 192.0.2.256, port: 1}"),
		"2:36: listen[0].address: \"192.0.2.256\" is no address"},
	{LISTEN_WITH("{transport: udp, address: 0.0.0.0, port: 1}"),
		"2:36: listen[0].address: 0.0.0.0 stands for every address"},
	{LISTEN_WITH("{transport: udp, address: '::', port: 1}"),
		"2:36: listen[0].address: :: stands for every address"},
	{LISTEN_WITH("{transport: udp, address: 224.0.0.1, port: 1}"),
		"2:36: listen[0].address: 224.0.0.1 is a multicast"},
	{LISTEN_WITH("{transport: udp, address: 'ff02::1', port: 1}"),
		"2:36: listen[0].address: ff02::1 is a multicast"},
	{LISTEN_WITH("{transport: udp, address: '::ffff:192.0.2.1', port: 1}"),
		"2:36: listen[0].address: ::ffff:192.0.2.1 is an IPv4 address in disguise"},
	{REALM "listen:\n- {transport: udp, address: 192.0.2.1, port: 1}\n"
	       "- {transport: udp, address: 192.0.2.1, port: 1}\n" RELAY AUTH,
		"4:29: listen[1].address: the same as listen[0]"},

	/* relay */
	{REALM LISTEN AUTH, "1:1: relay.addresses: is missing"},
	{RELAY_WITH("ports: 50000-50001"), "3:8: relay.addresses: is missing"},
	{RELAY_WITH("addresses: [{external: 192.0.2.1}]"),
		"3:21: relay.addresses[0]: has no address"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1, external: '2001:db8::1'}]"),
		"3:51: relay.addresses[0].external: is of another family than 10.0.0.1"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}, {address: 10.0.0.1}]"),
		"3:52: relay.addresses[1].address: the same as relay.addresses[0]"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1, external: 192.0.2.9}, "
		    "{address: 10.0.0.2, external: 192.0.2.9}]"),
		"3:93: relay.addresses[1].external: the same as that of relay.addresses[0]"},
	{RELAY_WITH("addresses: [" RELAYS_31 "]"), NULL},
	{RELAY_WITH("addresses: [" RELAYS_31 ", {address: 192.0.2.1}]"), NULL},
	{RELAY_WITH("addresses: [" RELAYS_31 ", {address: 192.0.2.2}]"),
		"3:20: relay.addresses: with those of listen these are 33 addresses"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], ports: 49152"),
		"3:50: relay.ports: \"49152\" is no range of ports"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], ports: 1023-65535"),
		"3:50: relay.ports: \"1023\" is out of range, expected 1024 to 65535"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], ports: 1024-65536"),
		"3:50: relay.ports: \"65536\" is out of range"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], ports: 50001-50000"),
		"3:50: relay.ports: begins behind its end"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], ports: 50000-50000"), NULL},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], ports: 50000 - 50001"),
		"3:50: relay.ports: \"50000 \" is not a whole number"},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], sockets: auto"), NULL},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], sockets: per_allocation"), NULL},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], sockets: shared"), NULL},
	{RELAY_WITH("addresses: [{address: 10.0.0.1}], sockets: one"),
		"3:52: relay.sockets: \"one\" is unknown, expected one of auto, per_allocation, "
		"shared"},

	/* auth */
	{REALM LISTEN RELAY, "1:1: auth: has neither users nor secrets"},
	{AUTH_WITH(""), "4:7: auth: has neither users nor secrets"},
	{AUTH_WITH("users: [], secrets: []"), "4:7: auth: has neither users nor secrets"},
	{AUTH_WITH("users: [{name: alice}]"), "4:16: auth.users[0]: has no password"},
	{AUTH_WITH("users: [{password: in-the-file}]"), "4:16: auth.users[0]: has no name"},
	{AUTH_WITH("users: [{name: a, password: ''}]"), "4:36: auth.users[0].password: is empty"},
	{AUTH_WITH("users: [{name: a, password:in-the-file}]"),
		"4:26: auth.users[0]: no space behind the colon"},
	{AUTH_WITH("users: [{name: a, passwort: in-the-file}]"),
		"4:26: auth.users[0].passwort: unknown key, did you mean password?"},
	{AUTH_WITH("users: [{name: a, in-the-file}]"),
		"4:26: auth.users[0]: unknown key, expected one of name, password"},
	{AUTH_WITH("users: [{name: a, password: b}, {name: a, password: c}]"),
		"4:15: auth.users: user \"a\" is there twice"},
	{AUTH_WITH("secrets: in-the-file"), "4:17: auth.secrets: a single value, expected a list"},
	{AUTH_WITH("users_file: absent.yaml"), "4:20: auth.users_file: cannot read "},
	{AUTH_WITH("secrets_file: absent"), "4:22: auth.secrets_file: cannot read "},
	{AUTH_WITH("users_file: users.yaml"), NULL},
	{AUTH_WITH("secrets_file: secrets"), NULL},
	{AUTH_WITH("secrets_file: empty"), "4:22: auth.secrets_file: "},
	{AUTH_WITH("secrets: [in-the-file-which-is-long], nonce_lifetime: 600"),
		"4:62: auth.nonce_lifetime: \"600\" has no unit, write 600 s"},

	/* peers */
	{BASE "peers: {allow: [10.0.0.0/8], deny: [10.0.0.0/33]}\n", "5:37: peers.deny[0]: "},
	{BASE "peers: {allow: [localhost]}\n", "5:17: peers.allow[0]: "},

	/* limits */
	{BASE "limits: {allocations: 0}\n", "5:23: limits.allocations: \"0\" is out of range"},
	{BASE "limits: {allocations: 1e5}\n",
		"5:23: limits.allocations: \"1e5\" is not a whole number"},
	{BASE "limits: {allocations: 100 s}\n",
		"5:23: limits.allocations: \"100 s\" is not a whole number"},
	{BASE "limits: {lifetime_max: 3600}\n",
		"5:24: limits.lifetime_max: \"3600\" has no unit, write 3600 s"},
	{BASE "limits: {lifetime_max: 3600 sec}\n",
		"5:24: limits.lifetime_max: \"3600 sec\" is not a time in s, min or h"},
	{BASE "limits: {lifetime_max: 0 s}\n",
		"5:24: limits.lifetime_max: \"0 s\" is out of range, expected 1 s to 86400 s"},
	{BASE "limits: {lifetime_max: 25 h}\n", "5:24: limits.lifetime_max: \"25 h\" is out of"},
	{BASE "limits: {lifetime_max: 99999999999999999 h}\n",
		"5:24: limits.lifetime_max: \"99999999999999999 h\" is out of range"},
	{BASE "limits: {lifetime_max: 10 min, lifetime_default: 11 min}\n",
		"5:50: limits.lifetime_default: lifetime_default is longer than lifetime_max, "
		"expected at most 600 s"},
	{BASE "limits: {lifetime_max: 5 s}\n",
		"5:24: limits.lifetime_max: lifetime_default is longer than lifetime_max"},
	{BASE "limits: {unauthenticated_replies_per_source: 500}\n",
		"5:46: limits.unauthenticated_replies_per_source: \"500\" has no unit, write "
		"500/s"},
	{BASE "limits: {bandwidth_per_allocation: 8000000}\n",
		"5:36: limits.bandwidth_per_allocation: \"8000000\" has no unit, write 8000000 kbit/s"},
	{BASE "limits: {bandwidth_per_allocation: 8 MB/s}\n",
		"5:36: limits.bandwidth_per_allocation: \"8 MB/s\" is not a bandwidth in bit/s, kbit/s, "
		"Mbit/s or Gbit/s, expected 2 kbit/s to 100000000 kbit/s"},
	{BASE "limits: {bandwidth_per_allocation: 1999 bit/s}\n",
		"5:36: limits.bandwidth_per_allocation: \"1999 bit/s\" is out of range, expected 2 kbit"},
	{BASE "limits: {bandwidth_per_allocation: 101 Gbit/s}\n",
		"5:36: limits.bandwidth_per_allocation: \"101 Gbit/s\" is out of range"},
	{BASE "limits: {channels_per_allocation: 4097}\n",
		"5:35: limits.channels_per_allocation: \"4097\" is out of range"},

	/* words */
	{BASE "compat: {rfc5766_channels: yes}\n",
		"5:28: compat.rfc5766_channels: \"yes\" is unknown, expected one of false, true"},
	{BASE "log: {level: verbose}\n", "5:14: log.level: \"verbose\" is unknown, expected one "
					 "of error, warning, info, debug"},
	{BASE "log: {level: \"in\\nfo\"}\n", "5:14: log.level: \"in?fo\" is unknown"},
	{BASE "log: {format: xml}\n", "5:15: log.format: \"xml\" is unknown"},

	/* data plane */
	{BASE "dataplane: {engine: afxdp}\n",
		"5:12: dataplane.interfaces: is missing, expected the interfaces for the engine "
		"afxdp"},
	{BASE "dataplane: {engine: afxdp, interfaces: [eth0]}\n", NULL},
	{BASE "dataplane: {engine: dpdk}\n", "5:12: dataplane.dpdk.ports: is missing"},
	{BASE "dataplane: {engine: dpdk, dpdk: {eal: [--no-pci]}}\n",
		"5:33: dataplane.dpdk.ports: is missing"},
	{BASE "dataplane: {engine: dpdk, dpdk: {ports: [{port: 0}]}}\n", NULL},
	{BASE "dataplane: {engine: warp}\n", "5:21: dataplane.engine: \"warp\" is unknown"},
	{BASE "dataplane: {engine: xdp}\n", "5:12: dataplane.interfaces: is missing"},
	{BASE "dataplane: {xdp_mode: fast}\n", "5:23: dataplane.xdp_mode: \"fast\" is unknown"},
	{BASE "dataplane: {interfaces: [eth0, eth0]}\n",
		"5:32: dataplane.interfaces[1]: eth0 is there twice"},
	{BASE "dataplane: {interfaces: [sixteen-letters-]}\n",
		"5:26: dataplane.interfaces[0]: \"sixteen-letters-\" is no name"},
	{BASE "dataplane: {interfaces: [../x]}\n",
		"5:26: dataplane.interfaces[0]: \"../x\" is no name"},
	{BASE "dataplane: {flows: 67108865}\n", "5:20: dataplane.flows: \"67108865\" is out of"},
	{BASE "dataplane: {workers: 0}\n",
		"5:22: dataplane.workers: \"0\" is out of range, expected 1 to 32"},
	{BASE "dataplane: {workers: 33}\n", "5:22: dataplane.workers: \"33\" is out of range"},
	{BASE "dataplane: {workers: 2, cores: [2, 3]}\n", NULL},
	{BASE "dataplane: {cores: [2, 3]}\n",
		"5:20: dataplane.cores: has 2 entries, expected one for each worker: "
		"dataplane.workers is 1"},
	{BASE "dataplane: {workers: 2, cores: [2, 2]}\n",
		"5:36: dataplane.cores[1]: core 2 is there twice"},
	{BASE "dataplane: {cores: [1024]}\n", "5:21: dataplane.cores[0]: \"1024\" is out of range"},
	{BASE "dataplane: {idle_sleep: 50}\n",
		"5:25: dataplane.idle_sleep: \"50\" has no unit, write 50 us"},
	{BASE "dataplane: {idle_sleep: 2 s}\n",
		"5:25: dataplane.idle_sleep: \"2 s\" is out of range, expected 0 us to 1000000 us"},
	{BASE "dataplane: {idle_sleep: 1 h}\n",
		"5:25: dataplane.idle_sleep: \"1 h\" is not a time in us, ms or s"},
	{DPDK_WITH("eal: [--in-memory, --proc-type=secondary]"),
		"5:39: dataplane.dpdk.eal[1]: --proc-type is not allowed: there are no secondary"},
	{DPDK_WITH("eal: [--proc, secondary]"), "5:26: dataplane.dpdk.eal[0]: --proc-type is not"},
	{DPDK_WITH("eal: [--telemetry]"),
		"5:26: dataplane.dpdk.eal[0]: --telemetry is not allowed"},
	{DPDK_WITH("eal: [--]"), "5:26: dataplane.dpdk.eal[0]: \"--\" would end"},
	{DPDK_WITH("eal: [--file-prefix=tp, -a, '0000:00:04.0', --no-telemetry]"), NULL},
	{DPDK_WITH("eal: --no-pci"), "5:25: dataplane.dpdk.eal: a single value, expected a list"},
	{DPDK_WITH("port: []"), "5:20: dataplane.dpdk.port: unknown key, did you mean ports?"},
	{DPDK_WITH("ports: [{exception: tap}]"), "5:28: dataplane.dpdk.ports[0]: has no port"},
	{DPDK_WITH("ports: [{port: 32}]"), "5:35: dataplane.dpdk.ports[0].port: \"32\" is out of"},
	{DPDK_WITH("ports: [{port: 1}, {port: 1}]"),
		"5:46: dataplane.dpdk.ports[1].port: port 1 is there twice"},
	{DPDK_WITH("ports: [{port: 0, exception: kni}]"),
		"5:49: dataplane.dpdk.ports[0].exception: \"kni\" is unknown, expected one of tap, "
		"virtio-user"},
	{DPDK_WITH("ports: [{port: 0, addresses: [192.0.2.1]}]"),
		"5:50: dataplane.dpdk.ports[0].addresses[0]: \"192.0.2.1\" has no prefix length"},
	{DPDK_WITH("ports: [{port: 0, addresses: [192.0.2.1/33]}]"),
		"5:50: dataplane.dpdk.ports[0].addresses[0]: prefix length \"33\" is out of range, "
		"expected 1 to 32"},
	{DPDK_WITH("ports: [{port: 0, addresses: [0.0.0.0/0]}]"),
		"5:50: dataplane.dpdk.ports[0].addresses[0]: 0.0.0.0 stands for every address"},
	{DPDK_WITH("ports: [{port: 0, addresses: [\"2001:db8::1/128\"]}]"), NULL},
	{DPDK_WITH("ports: [{port: 0, gateway: eth0}]"),
		"5:47: dataplane.dpdk.ports[0].gateway: \"eth0\" is no address"},
	{DPDK_WITH("ports: [{port: 0, gateway6: 192.0.2.1}]"),
		"5:48: dataplane.dpdk.ports[0].gateway6: 192.0.2.1 is no IPv6 address"},
	{DPDK_WITH("ports: [{port: 0, gateway: \"fe80::1\", gateway6: \"fe80::2\"}]"),
		"5:68: dataplane.dpdk.ports[0].gateway6: is the second IPv6 gateway"},

	{"realm: &r example.org-with-an-anchor\n" LISTEN RELAY "auth: {secrets: [*r]}\n", NULL},

	/* the rest */
	{BASE "tls: {certificate: a}\n", "5:1: tls: is not implemented yet"},
	{BASE "metrics: {port: 1}\n", "5:1: metrics: is not implemented yet"},
	{BASE "control: {socket: run.sock}\n", "5:19: control.socket: is not usable"},
	{BASE "control: {socket: /" LONG_127 "}\n", "5:19: control.socket: is not usable"},
	{BASE "control: {socket: /a, readonly_socket: /a}\n",
		"5:40: control.readonly_socket: is the same"},
	{BASE "control: {socket: /a/dataplane.sock}\n",
		"5:19: control.socket: is where turnpike-dataplane is awaited"},
	{BASE "control: {socket: /a/b, readonly_socket: /a/dataplane.sock}\n",
		"5:42: control.readonly_socket: is where turnpike-dataplane is awaited"},
	{BASE "control: {socket: /" LONG_31 LONG_31 LONG_31 "/c}\n",
		"5:19: control.socket: leaves no room for the name of dataplane.sock beside it"},
	{BASE "control: {workers: 2}\n", "5:20: control.workers: \"2\": more than one thread"},
};

static bool row_holds(size_t i)
{
	char error[CONFIG_ERROR_SIZE] = "", want[CONFIG_ERROR_SIZE];
	struct config *config = NULL;
	int err = load(rows[i].text, strlen(rows[i].text), &config, error);
	bool secret = strstr(error, "in-the-file") || strchr(error, '\n');

	config_free(config);
	if (!rows[i].error)
		snprintf(want, sizeof(want), "%s", "");
	else
		snprintf(want, sizeof(want), "t.yaml:%s", rows[i].error);
	if ((err == 0) == !rows[i].error && strncmp(error, want, strlen(want)) == 0 && !secret)
		return true;
	print_error("row %zu:\n%swanted: %s\ngot:    %s\n", i, rows[i].text, want, error);
	return false;
}

static void test_rows(void **state)
{
	size_t wrong = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		wrong += !row_holds(i);
	assert_int_equal(wrong, 0);
}

static void test_defaults(void **state)
{
	char error[CONFIG_ERROR_SIZE];
	struct config *c;

	assert_int_equal(load(BASE, strlen(BASE), &c, error), 0);
	assert_string_equal(c->auth.realm, "example.org");
	assert_int_equal(c->turn.port_min, 49152);
	assert_int_equal(c->turn.port_max, 65535);
	assert_int_equal(c->turn.allocations_max, 100000);
	assert_int_equal(c->turn.allocations_per_user, 10);
	assert_int_equal(c->turn.permissions_per_allocation, 256);
	assert_int_equal(c->turn.channels_per_allocation, 64);
	assert_int_equal(c->turn.unauthenticated_replies_per_source, 500);
	assert_int_equal(c->bandwidth_per_allocation, 0);
	assert_true(c->turn.lifetime_default_ns == 600 * TP_NS_PER_S);
	assert_true(c->turn.lifetime_max_ns == 3600 * TP_NS_PER_S);
	assert_true(c->turn.permission_lifetime_ns == 300 * TP_NS_PER_S);
	assert_true(c->turn.channel_lifetime_ns == 600 * TP_NS_PER_S);
	assert_true(c->auth.nonce_lifetime_ns == 600 * TP_NS_PER_S);
	assert_false(c->turn.rfc5766_channels);
	assert_int_equal(c->relay_sockets, CONFIG_RELAY_SOCKETS_AUTO);
	assert_int_equal(c->engine, CONFIG_ENGINE_AUTO);
	assert_int_equal(c->engine_options.flows, 1048576);
	assert_int_equal(c->engine_options.interfaces_count, 0);
	assert_int_equal(c->engine_options.allocations, 100000);
	assert_int_equal(c->engine_options.workers, 1);
	assert_int_equal(c->engine_options.cores_count, 0);
	assert_int_equal(c->engine_options.idle_sleep_us, 0);
	assert_int_equal(c->engine_options.eal_count, 0);
	assert_int_equal(c->engine_options.ports_count, 0);
	assert_string_equal(c->engine_options.link_path, "/run/turnpike/dataplane.sock");
	assert_string_equal(c->control.socket, "/run/turnpike/control.sock");
	assert_string_equal(c->control.group, "turnpike");
	assert_null(c->control.readonly_socket);
	assert_string_equal(c->control.readonly_group, "turnpike-ro");
	assert_int_equal(c->log_level, TP_LOG_INFO);
	assert_false(c->log_json);
	assert_null(c->warnings);
	config_free(c);
}

static void assert_address(const struct tp_addr *a, const char *want)
{
	char text[TP_ADDR_TEXT];

	assert_string_equal(tp_addr_text(a, text), want);
}

static void check_workers(const struct tp_engine_options *o)
{
	assert_string_equal(o->link_path, "/tmp/dataplane.sock");
	assert_int_equal(o->allocations, 200000);
	assert_int_equal(o->workers, 2);
	assert_int_equal(o->cores_count, 2);
	assert_int_equal(o->cores[0], 2);
	assert_int_equal(o->cores[1], 3);
	assert_int_equal(o->idle_sleep_us, 50);
}

static void check_dpdk(const struct tp_engine_options *o)
{
	assert_int_equal(o->eal_count, 3);
	assert_string_equal(o->eal[2], "--vdev=net_af_packet0,iface=eth0");
	assert_int_equal(o->ports_count, 2);
	assert_int_equal(o->ports[0].port, 3);
	assert_int_equal(o->ports[0].exception, TP_EXCEPTION_VIRTIO_USER);
	assert_int_equal(o->ports[0].addresses_count, 1);
	assert_string_equal(o->ports[0].addresses[0], "192.0.2.1/24");
	assert_int_equal(o->ports[0].gateways_count, 2);
	assert_string_equal(o->ports[0].gateways[0], "192.0.2.2");
	assert_string_equal(o->ports[0].gateways[1], "fe80::1");
	assert_int_equal(o->ports[1].port, 0);
	assert_int_equal(o->ports[1].exception, TP_EXCEPTION_TAP);
	assert_int_equal(o->ports[1].addresses_count, 0);
	assert_int_equal(o->ports[1].gateways_count, 1);
	assert_string_equal(o->ports[1].gateways[0], "fe80::2");
}

static void test_everything_given(void **state)
{
	static const char *const users[] = {"alice", "bob", "carol"};
	static const char *const secrets[] = {"long-enough-for-anyone-1",
		"long-enough-for-anyone-2", "first line of the file", "#second line of the file"};
	char error[CONFIG_ERROR_SIZE];
	struct config *c;

	assert_int_equal(load(FULL, strlen(FULL), &c, error), 0);
	assert_int_equal(c->listeners_count, 2);
	assert_address(&c->listeners[0].address, "192.0.2.1:3478");
	assert_address(&c->listeners[1].address, "[2001:db8::1]:3478");
	assert_int_equal(c->turn.relays_count, 3);
	assert_address(&c->turn.relays[1].address, "10.0.0.5:0");
	assert_address(&c->turn.relays[1].external, "203.0.113.7:0");
	assert_int_equal(c->turn.relays[2].external.family, TP_NO_FAMILY);
	assert_int_equal(c->turn.port_min, 50000);
	assert_int_equal(c->turn.port_max, 50999);
	assert_int_equal(c->auth.users_count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_string_equal(c->auth.users[i].name, users[i]);
	assert_string_equal(c->auth.users[0].password, "in-the-file");
	assert_string_equal(c->auth.users[2].password, "carols");
	assert_int_equal(c->auth.secrets_count, 4);
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(c->auth.secrets[i], secrets[i]);
	assert_true(c->auth.nonce_lifetime_ns == 1800 * TP_NS_PER_S);
	assert_int_equal(c->peer_rules_count, 2);
	assert_true(c->peer_rules[0].allow);
	assert_false(c->peer_rules[1].allow);
	assert_string_equal(c->peer_rules[1].prefix, "198.51.100.0/24");
	assert_int_equal(c->turn.allocations_max, 200000);
	assert_int_equal(c->turn.allocations_per_user, 20);
	assert_int_equal(c->turn.permissions_per_allocation, 128);
	assert_int_equal(c->turn.channels_per_allocation, 32);
	assert_int_equal(c->turn.unauthenticated_replies_per_source, 50);
	assert_int_equal(c->bandwidth_per_allocation, 8000000);
	assert_true(c->turn.lifetime_default_ns == 601 * TP_NS_PER_S);
	assert_true(c->turn.lifetime_max_ns == 7200 * TP_NS_PER_S);
	assert_true(c->turn.channel_lifetime_ns == 600 * TP_NS_PER_S);
	assert_true(c->turn.rfc5766_channels);
	assert_int_equal(c->relay_sockets, CONFIG_RELAY_SOCKETS_SHARED);
	assert_int_equal(c->engine, CONFIG_ENGINE_XDP);
	assert_int_equal(c->engine_options.xdp_mode, TP_XDP_GENERIC);
	assert_int_equal(c->engine_options.interfaces_count, 2);
	assert_string_equal(c->engine_options.interfaces[1], "eth1");
	assert_int_equal(c->engine_options.flows, 4096);
	check_workers(&c->engine_options);
	check_dpdk(&c->engine_options);
	assert_string_equal(c->control.readonly_socket, "/tmp/ro.sock");
	assert_string_equal(c->control.readonly_group, "users");
	assert_int_equal(c->log_level, TP_LOG_DEBUG);
	assert_true(c->log_json);
	config_free(c);
}

static void test_policy(void **state)
{
	char error[CONFIG_ERROR_SIZE];
	struct policy *policy;
	struct config *c;
	struct tp_addr a;

	assert_int_equal(load(FULL, strlen(FULL), &c, error), 0);
	assert_int_equal(config_make_policy(c, &policy), 0);
	assert_int_equal(tp_addr_parse_ip("10.1.2.3", &a), 0);
	assert_int_equal(policy_check(policy, &a, NULL), POLICY_ALLOW);
	assert_int_equal(tp_addr_parse_ip("198.51.100.9", &a), 0);
	assert_int_equal(policy_check(policy, &a, NULL), POLICY_DENY);
	assert_int_equal(tp_addr_parse_ip("192.0.2.1", &a), 0);
	assert_int_not_equal(policy_check(policy, &a, NULL), POLICY_ALLOW);
	policy_free(policy);
	config_free(c);
}

static void test_warnings(void **state)
{
	static const char text[] = REALM
		"listen: [{transport: udp, address: 192.0.2.1, port: 50000}]\n" RELAY
		"auth: {secrets: [long-enough-for-anyone, short]}\n"
		"limits: {lifetime_default: 5 s, lifetime_max: 10 s, permission_lifetime: 1 s,\n"
		"  channel_lifetime: 20 min}\n";
	static const char *const want[] = {
		"t.yaml:2:53: listen[0].port: 50000 lies within relay.ports",
		"t.yaml:4:42: auth.secrets[1]: a secret of 5 bytes can be guessed",
		"t.yaml:5:28: limits.lifetime_default: 5 s is below the 600 s of the RFC",
		"t.yaml:5:47: limits.lifetime_max: 10 s is below the 600 s of the RFC",
		"t.yaml:5:74: limits.permission_lifetime: 1 s is below the 300 s of the RFC",
		"t.yaml:6:21: limits.channel_lifetime: 1200 s is above the 600 s of the RFC",
	};
	char error[CONFIG_ERROR_SIZE];
	struct config_warning *w;
	struct config *c;
	size_t i = 0;

	assert_int_equal(load(text, strlen(text), &c, error), 0);
	for (w = c->warnings; w; w = w->next, i++) {
		assert_true(i < sizeof(want) / sizeof(want[0]));
		assert_memory_equal(w->text + strlen(folder) + 1, want[i], strlen(want[i]));
	}
	assert_int_equal(i, sizeof(want) / sizeof(want[0]));
	config_free(c);
}

static void test_world_readable_secrets(void **state)
{
	static const struct {
		mode_t mode;
		const char *text;
		bool warned;
	} files[] = {
		{0600, BASE, false},
		{0640, BASE, false},
		{0644, BASE, true},
		{0644, AUTH_WITH("secrets: [long-enough-for-anyone]"), true},
		{0644, AUTH_WITH("secrets_file: secrets"), false},
	};
	char path[128], error[CONFIG_ERROR_SIZE];
	struct config *c;

	snprintf(path, sizeof(path), "%s/mode.yaml", folder);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		write_file("mode.yaml", files[i].text, strlen(files[i].text));
		assert_int_equal(chmod(path, files[i].mode), 0);
		assert_int_equal(config_load(path, &c, error), 0);
		assert_int_equal(c->warnings != NULL, files[i].warned);
		config_free(c);
	}
	assert_int_equal(unlink(path), 0);
}

/* The file that is wrong is the file that is named. */
static void test_users_file(void **state)
{
	static const struct {
		const char *text, *error;
	} bad[] = {
		{"name: a\n", "bad.yaml:1:1: yaml: a mapping of keys to values, expected a list"},
		{"- {name: a, password: in-the-file}\n- {nam: b}\n",
			"bad.yaml:2:4: [1].nam: unknown"},
		{"- {name: a}\n", "bad.yaml:1:3: [0]: has no password"},
		{"- {name: a, password: [in-the-file]}\n", "bad.yaml:1:23: [0].password: a list"},
		{"- {name: a, password: \"in-the-file}\n", "bad.yaml:2:1: yaml: "},
		{"- in-the-file\n", "bad.yaml:1:3: [0]: a single value"},
		{"- {name: alice, password: x}\n", "t.yaml:4:15: auth.users: user \"alice\" is"},
	};
	static const char text[] =
		AUTH_WITH("users: [{name: alice, password: in-the-file}], users_file: bad.yaml");
	char error[CONFIG_ERROR_SIZE];
	struct config *c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_file("bad.yaml", bad[i].text, strlen(bad[i].text));
		assert_int_equal(load(text, strlen(text), &c, error), -EINVAL);
		if (strncmp(error, bad[i].error, strlen(bad[i].error)) != 0)
			fail_msg("wanted: %s\ngot:    %s", bad[i].error, error);
		assert_null(strstr(error, "in-the-file"));
	}
}

static void check_survives(const char *text, size_t len)
{
	char error[CONFIG_ERROR_SIZE] = "";
	struct config *c = NULL;
	int err = load(text, len, &c, error);

	if (err < 0) {
		assert_int_equal(err, -EINVAL);
		assert_memory_equal(error, "t.yaml:", 7);
		assert_null(strstr(error, "cannot be loaded")); /* libcyaml found what we did not */
		assert_null(strstr(error, "long-enough"));
		assert_null(strstr(error, "in-the-file"));
		assert_null(strchr(error, '\n'));
	}
	config_free(c);
}

static void test_damaged_files(void **state)
{
	static const char poison[] = "{}[]:,-&*?!|>'\"%@`#\n\t\0\xff~0";
	char text[sizeof(FULL)];

	for (size_t len = 0; len < strlen(FULL); len++)
		check_survives(FULL, len);
	for (size_t i = 0; i < strlen(FULL); i++) {
		memcpy(text, FULL, sizeof(FULL));
		text[i] = poison[i % (sizeof(poison) - 1)];
		check_survives(text, strlen(FULL));
	}
}

static void test_unreadable(void **state)
{
	char error[CONFIG_ERROR_SIZE];
	struct config *c;

	assert_int_equal(config_load("/nonexistent/x.yaml", &c, error), -ENOENT);
	assert_string_equal(error, "/nonexistent/x.yaml:1:1: yaml: No such file or directory, "
				   "expected a readable file");
}

static void test_options(void **state)
{
	static const struct {
		const char *arguments[4];
		int err;
		enum options_action action;
		const char *config;
	} lines[] = {
		{{NULL}, 0, OPTIONS_SERVE, CONFIG_DEFAULT_PATH},
		{{"-c", "a"}, 0, OPTIONS_SERVE, "a"},
		{{"--config", "a", "--check"}, 0, OPTIONS_CHECK, "a"},
		{{"--check", "--config=b"}, 0, OPTIONS_CHECK, "b"},
		{{"--version"}, 0, OPTIONS_VERSION, CONFIG_DEFAULT_PATH},
		{{"--help"}, 0, OPTIONS_HELP, CONFIG_DEFAULT_PATH},
		{{"-c"}, -EINVAL},
		{{"--config="}, -EINVAL},
		{{"--frobnicate"}, -EINVAL},
		{{"file.yaml"}, -EINVAL},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char *argv[6] = {"turnpiked"};
		struct options o;
		char error[256] = "";
		int argc = 1;

		for (size_t j = 0; j < 4 && lines[i].arguments[j]; j++)
			argv[argc++] = (char *)lines[i].arguments[j];
		assert_int_equal(options_parse(argc, argv, &o, error), lines[i].err);
		if (lines[i].err) {
			assert_true(*error);
			continue;
		}
		assert_int_equal(o.action, lines[i].action);
		assert_string_equal(o.config, lines[i].config);
	}
}

static int make_folder(void **state)
{
	static const char users[] = "- {name: carol, password: carols}\n"
				    "- {name: bob, password: bobs}\n";
	static const char secrets[] = "first line of the file\r\n\n#second line of the file";

	snprintf(folder, sizeof(folder), "/tmp/test_config.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	write_file("users.yaml", users, strlen(users));
	write_file("secrets", secrets, strlen(secrets));
	write_file("empty", "\n\n", 2);
	return 0;
}

static int remove_folder(void **state)
{
	static const char *const names[] = {"t.yaml", "users.yaml", "secrets", "empty", "bad.yaml"};
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_everything_given),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_world_readable_secrets),
		cmocka_unit_test(test_users_file),
		cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
