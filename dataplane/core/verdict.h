/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * What became of a packet. One list feeds BPF, every engine, the CLI and the metrics: a packet that
 * vanishes without a counter is a bug. The column `fate` says what an engine does with it:
 * SEND it is rewritten and leaves; PASS goes to the kernel untouched; DROP ends here. A polling
 * worker rewrites most of what is TOO_BIG or has NO_NEXT_HOP and has the kernel send it (packet.h).
 */
#pragma once

enum tp_fate { TP_FATE_SEND, TP_FATE_PASS, TP_FATE_DROP };

/* clang-format off */
#define TP_VERDICTS(X)                                                                             \
	X(RELAYED,      "relayed",      SEND, "rewritten in place and transmitted")                \
	X(NOT_OURS,     "not_ours",     PASS, "not addressed to a port of ours")                   \
	X(CONTROL,      "control",      PASS, "to a listener, not ChannelData: the control plane") \
	X(UNBOUND,      "unbound",      PASS, "a client of ours, to what was not granted, or not yet")  \
	X(SLOW_PORT,    "slow_port",    PASS, "a relay port that the control plane serves itself") \
	X(FRAGMENT,     "fragment",     PASS, "an IP fragment: the kernel reassembles it")         \
	X(OPTIONS,      "options",      PASS, "IP or UDP options, extension headers, two VLAN tags")\
	X(TOO_BIG,      "too_big",      PASS, "larger than the next hop's MTU after the rewrite")  \
	X(NO_NEXT_HOP,  "no_next_hop",  PASS, "no resolved next hop on an interface of ours")      \
	X(PADDED,       "padded",       PASS, "more behind the ChannelData than padding")          \
	X(UNSUMMED,     "unsummed",     PASS, "no UDP checksum from IPv4, and none could be made") \
	X(UNPLACED,     "unplaced",     PASS, "no match while some flows found no slot")           \
	X(NO_ROOM,      "no_room",      PASS, "the driver had no head room or tail room")          \
	X(OFF,          "off",          PASS, "tables absent, of another version, or switched off")\
	X(NO_FLOW,      "no_flow",      DROP, "a port of ours, but nobody granted it")             \
	X(EXPIRED,      "expired",      DROP, "the grant's time is over")                          \
	X(MALFORMED,    "malformed",    DROP, "lengths contradict each other")                     \
	X(BAD_SOURCE,   "bad_source",   DROP, "a source no honest packet has: port 0, own, martian")\
	X(NO_CHECKSUM,  "no_checksum",  DROP, "UDP over IPv6 without a checksum")                  \
	X(TTL_EXPIRED,  "ttl_expired",  DROP, "TTL or hop limit would reach 0")                    \
	X(BAD_CHECKSUM, "bad_checksum", DROP, "a wrong IPv4 header checksum, about to get lost")   \
	X(FORBIDDEN,    "forbidden",    DROP, "a flow to an address no policy can allow")          \
	X(INCOMPLETE,   "incomplete",   DROP, "a Send indication without a peer or without data")  \
	X(UNKNOWN_ATTRIBUTE, "unknown_attribute", DROP, "a required one in a Send indication")     \
	X(POLICED,      "policed",      DROP, "over the allocation's bandwidth limit")             \
	X(QUEUE_FULL,   "queue_full",   DROP, "worker: already counted, then no room to send it")  \
	X(NOT_SENT,     "not_sent",     DROP, "worker: already counted, then refused by the kernel")
/* clang-format on */

enum tp_verdict {
#define X(name, text, fate, meaning) TP_##name,
	TP_VERDICTS(X)
#undef X
		TP_VERDICT_COUNT
};

static inline enum tp_fate tp_verdict_fate(enum tp_verdict verdict)
{
	switch (verdict) {
#define X(name, text, fate, meaning)                                                               \
	case TP_##name:                                                                            \
		return TP_FATE_##fate;
		TP_VERDICTS(X)
#undef X
	case TP_VERDICT_COUNT:
		break;
	}
	return TP_FATE_PASS;
}
