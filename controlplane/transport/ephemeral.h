/*
 * Ports that the kernel gives to sockets of anybody who asks for none in particular: those of
 * net.ipv4.ip_local_port_range, which is for IPv6 too, without net.ipv4.ip_local_reserved_ports.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ephemeral_ports {
	uint16_t first, last;
};

/*
 * Are there any from min to max? *out: from the first to the last of them. range and reserved are
 * the texts of the two files; what cannot be read of the first one counts as all ports, of the
 * second one as none.
 */
bool ephemeral_among(const char *range, const char *reserved, uint16_t min, uint16_t max,
	struct ephemeral_ports *out);

/* The same in the caller's network namespace; blocks on two small files. */
bool ephemeral_here(uint16_t min, uint16_t max, struct ephemeral_ports *out);
