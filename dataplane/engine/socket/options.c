/* A table for each family. */
#include "options.h"

#include <errno.h>
#include <sys/socket.h>

/*
 * Without DF, whatever path MTU somebody's ICMP claims (threat F17). IP_PMTUDISC_DONT would do the
 * same but keep "fragmentation needed" from us, which clients are to be told (RFC 8656, 11.5); for
 * IPv6 it is the other way round.
 */
static const struct tp_ip_options ipv4 = {IPPROTO_IP, IP_RECVTTL, IP_RECVTOS, IP_RECVERR,
	IP_RECVORIGDSTADDR, IP_MTU_DISCOVER, IP_TTL, IP_TOS, IP_PMTUDISC_OMIT, IP_PMTUDISC_DO,
	IP_FREEBIND};
static const struct tp_ip_options ipv6 = {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS,
	IPV6_RECVERR, IPV6_RECVORIGDSTADDR, IPV6_MTU_DISCOVER, IPV6_HOPLIMIT, IPV6_TCLASS,
	IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_DO, IPV6_FREEBIND};

const struct tp_ip_options *tp_ip_options(int family)
{
	return family == AF_INET ? &ipv4 : &ipv6;
}

int tp_set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}
