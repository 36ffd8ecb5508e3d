/*
 * An end of the network: transport addresses of this machine, numbered from 0, and a way for
 * datagrams to and from them. Any thread may send, one receives. What goes wrong ends the program.
 */
#pragma once

#include "range.h"

#define END_BURST 64

struct datagram {
	uint32_t at;           /* which of the end's addresses */
	struct tp_addr remote; /* where it goes; of what comes it is not filled in */
	uint8_t *bytes;
	size_t len;
	/* Of what goes: where in it there is the time of sending, as a uint64_t of
	 * tp_clock_now_ns(). An end that knows better may put the time there at which it really
	 * left. 0: nowhere. */
	size_t time_at;
};

struct end_settings {
	const char *name;             /* for what goes wrong: the option that says where it is */
	struct range range;           /* ports: port 0 of the first: whichever are free */
	uint32_t count;               /* of addresses, no more than the range has */
	const struct tp_addr *server; /* the only one to talk with; NULL: anybody */
	/* DPDK's: PCI address or virtual device, with its arguments; IP or MAC address that all is
	 * sent to, or NULL: everybody is on the link. */
	const char *device, *gateway;
};

struct end;

struct end_ways {
	/* Returns when all are on their way. */
	void (*send)(struct end *end, const struct datagram *all, unsigned count);
	/* At most END_BURST, valid until the next call; 0 after timeout_ms, or a signal. */
	unsigned (*receive)(struct end *end, struct datagram out[END_BURST], int timeout_ms);
	/* What came and was thrown away since it was opened, because it was not received in time.
	 */
	uint64_t (*unread)(struct end *end);
	void (*close)(struct end *end);
};

struct end {
	const struct end_ways *ways;
	struct range range; /* with the port that was found free */
	uint32_t count;
};

/* A socket for each address. gso: equal datagrams in a row with the same way go to the kernel as
 * one. */
struct end *end_open_sockets(const struct end_settings *settings, bool gso);

#ifdef HAVE_AFXDP
/* Frames; the addresses are an interface's of this machine. Ports are known: 0 stands for one that
 * is free, of peers. Needs root. live: they leave as live frames, not by AF_XDP. */
struct end *end_open_frames(const struct end_settings *settings, bool live);
#endif

#ifdef HAVE_DPDK
/* Before the first of them: `eal` is its arguments, separated by blanks, or NULL. */
void end_begin_dpdk(const char *eal, const char *const devices[], unsigned count);
/* Frames through a port of DPDK's, which has these addresses: it answers for them by ARP and
 * neighbour discovery. Port 0 stands for one, of peers. */
struct end *end_open_dpdk(const struct end_settings *settings);
#endif

static inline void end_send(struct end *end, const struct datagram *all, unsigned count)
{
	end->ways->send(end, all, count);
}

static inline unsigned end_receive(struct end *end, struct datagram out[END_BURST], int timeout_ms)
{
	return end->ways->receive(end, out, timeout_ms);
}

static inline uint64_t end_unread(struct end *end)
{
	return end->ways->unread(end);
}

static inline void end_close(struct end *end)
{
	if (end)
		end->ways->close(end);
}
