/*
 * Raw sockets that send UDP from any address of the machine and any port, and receive nothing. The
 * UDP header is part of what is sent, the IP header is described beside it (IP_PKTINFO, IP_TTL,
 * IP_TOS and their like): where a socket includes the header, the kernel refuses what is larger
 * than the link (EMSGSIZE) instead of fragmenting it.
 */
#pragma once

#include <stdbool.h>

/*
 * family: AF_INET or AF_INET6. whole: with DF, a property of the socket; else fragmented wherever
 * needed, whatever path MTU an ICMP message claims. Needs privileges. -EAFNOSUPPORT: the kernel has
 * no such family.
 */
int tp_raw_open(int family, bool whole, int *out);
