/*
 * The kernel's IP output for packets that are rewritten but have no way out of an engine's own: it
 * routes, resolves neighbours, fragments. One owner and one thread each; opened as root, used
 * without privileges. Nothing is received, waited for or, after the opening, allocated.
 */
#pragma once

#include <stdint.h>

struct tp_output;

/* 0 or -errno. */
int tp_output_open(struct tp_output **out);
void tp_output_close(struct tp_output *output); /* NULL is legal */

/*
 * An IPv4 packet without options, or an IPv6 packet, that carries UDP; up to TP_BURST of them. It
 * stays where it is until it is sent. Addresses, TTL, traffic class and what UDP carries are kept,
 * checksum included; an IPv4 packet without DF, and an IPv6 packet, is fragmented where that is
 * necessary. Identification and flow label are the kernel's.
 */
void tp_output_add(struct tp_output *output, const uint8_t *packet, const uint8_t *end);

/* How many were sent. The kernel refuses what has DF and is too big, or has no route. */
uint32_t tp_output_send(struct tp_output *output);
