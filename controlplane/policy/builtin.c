/*
 * The built-in rules, from IANA's special-purpose registries, RFC 6156 section 9.1 and what clouds
 * put into public address space. Constant.
 *
 * IPv6 addresses that embed an IPv4 one (mapped, compatible, translated, 6to4, Teredo) are denied
 * as such, so that no spelling of an IPv4 address gets past the rules for IPv4 (threats P03 to
 * P07).
 */
#include "builtin.h"

#define ALLOW     BUILTIN_ALLOW
#define ALWAYS    BUILTIN_ALWAYS
#define NO_CLIENT BUILTIN_NO_CLIENT
#define ROW(prefix, reason, flags)                                                                 \
	{                                                                                          \
		(prefix), "built in: " reason, (flags)                                             \
	}

const struct builtin policy_builtins[] = {
	ROW("0.0.0.0/0", "public IPv4", ALLOW),
	ROW("0.0.0.0/8", "this host", ALWAYS | NO_CLIENT),
	ROW("10.0.0.0/8", "RFC 1918", 0),
	ROW("100.64.0.0/10", "carrier NAT", 0),
	ROW("127.0.0.0/8", "loopback", ALWAYS),
	ROW("168.63.129.16/32", "Azure WireServer", 0),
	ROW("169.254.0.0/16", "link-local, metadata", ALWAYS),
	ROW("172.16.0.0/12", "RFC 1918", 0),
	ROW("192.0.0.0/24", "IETF protocols", 0),
	ROW("192.0.2.0/24", "TEST-NET-1", 0),
	ROW("192.31.196.0/24", "AS112", 0),
	ROW("192.52.193.0/24", "AMT", 0),
	ROW("192.88.99.0/24", "6to4 anycast", 0),
	ROW("192.168.0.0/16", "RFC 1918", 0),
	ROW("192.175.48.0/24", "AS112", 0),
	ROW("198.18.0.0/15", "benchmarking", 0),
	ROW("198.51.100.0/24", "TEST-NET-2", 0),
	ROW("203.0.113.0/24", "TEST-NET-3", 0),
	ROW("224.0.0.0/4", "multicast", ALWAYS | NO_CLIENT),
	ROW("240.0.0.0/4", "reserved", ALWAYS | NO_CLIENT),
	ROW("255.255.255.255/32", "broadcast", ALWAYS | NO_CLIENT),

	ROW("::/0", "not global unicast", 0),
	ROW("::/96", "IPv4-compatible", ALWAYS | NO_CLIENT),
	ROW("::/128", "unspecified", ALWAYS | NO_CLIENT),
	ROW("::1/128", "loopback", ALWAYS),
	ROW("::ffff:0:0/96", "IPv4-mapped", ALWAYS | NO_CLIENT),
	ROW("::ffff:0:0:0/96", "SIIT", ALWAYS | NO_CLIENT),
	ROW("64:ff9b::/96", "NAT64", ALWAYS),
	ROW("64:ff9b:1::/48", "local NAT64", ALWAYS),
	ROW("100::/64", "discard-only", 0),
	ROW("100:0:0:1::/64", "dummy prefix", 0),
	ROW("2000::/3", "global unicast", ALLOW),
	ROW("2001::/23", "IETF protocols", 0),
	ROW("2001::/32", "Teredo", ALWAYS | NO_CLIENT),
	ROW("2001:2::/48", "benchmarking", 0),
	ROW("2001:20::/28", "ORCHID", 0),
	ROW("2001:db8::/32", "documentation", 0),
	ROW("2002::/16", "6to4", ALWAYS | NO_CLIENT),
	ROW("2620:4f:8000::/48", "AS112", 0),
	ROW("3fff::/20", "documentation", 0),
	ROW("5f00::/16", "SRv6", 0),
	ROW("fc00::/7", "unique local", 0),
	ROW("fe80::/10", "link-local", ALWAYS),
	ROW("fec0::/10", "site-local", 0),
	ROW("ff00::/8", "multicast", ALWAYS | NO_CLIENT),
};
const size_t policy_builtins_count = sizeof(policy_builtins) / sizeof(policy_builtins[0]);
