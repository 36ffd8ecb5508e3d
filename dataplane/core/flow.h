/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The shared tables as they lie in memory: the contract between the control plane, which alone
 * writes them, and every data plane, which reads them without locks. A flow is a rewrite:
 * (remote, local, channel) in -> (remote, local, channel) out; channel 0 means that this side has
 * no ChannelData header. IPv4 is v4-mapped; local addresses are indexes into the locals table.
 *
 * Publishing rules: a record is immutable while it can be matched, except single aligned words
 * (expires, next_hop, peer_hop, and each of a client's relays as one word). Insert: detail, value,
 * then the key's addresses, then the key's `ident` word (release), last the tag. Remove: clear the
 * ident word first; the slot rests until every reader has passed and only then is it reused.
 */
#pragma once

#include "wire.h"

#define TP_MAGIC       UINT32_C(0x74704b31) /* "tpK1" */
#define TP_ABI_VERSION 5

#define TP_LOCALS_MAX      32
#define TP_NEXT_HOPS_MAX   4096
#define TP_INTERFACES_MAX  16
#define TP_BUCKET_SLOTS    8
#define TP_VERDICT_CELLS   32 /* room in the counters, so that a new verdict keeps the layout */
#define TP_NO_NEXT_HOP_YET 0  /* next hop 0 is never valid: packets go to the kernel */

/*
 * Time in the tables: ticks of 2^26 ns (67 ms) of CLOCK_MONOTONIC. A shift where seconds would cost
 * a 64-bit division per packet, which BPF cannot strength-reduce; 32 bits last 9 years of uptime.
 */
#define TP_TICK_SHIFT 26

static TP_INLINE uint32_t tp_ticks(uint64_t now_ns)
{
	return (uint32_t)(now_ns >> TP_TICK_SHIFT);
}

/* Rounded up: a grant never ends early. */
static TP_INLINE uint32_t tp_ticks_until(uint64_t deadline_ns)
{
	return (uint32_t)((deadline_ns + (UINT64_C(1) << TP_TICK_SHIFT) - 1) >> TP_TICK_SHIFT);
}

enum tp_flow_kind {
	TP_FLOW_NONE = 0,
	TP_FLOW_CHANNEL,    /* client's ChannelData -> peer (RFC 8656, 12.6) */
	TP_FLOW_PEER,       /* that peer's datagrams -> ChannelData (RFC 8656, 12.7) */
	TP_FLOW_PERMISSION, /* any port of a permitted peer address; remote port 0 (RFC 8656, 9):
			       that peer's datagrams -> Data; the right to Send there */
	TP_FLOW_CLIENT,     /* a client's 5-tuple that has an allocation (RFC 8656, 3.2) */
};

enum tp_direction { TP_CLIENT_TO_PEER, TP_PEER_TO_CLIENT, TP_DIRECTIONS };

/* Families of what comes in and what leaves. */
enum tp_pair { TP_V4_TO_V4, TP_V6_TO_V6, TP_V4_TO_V6, TP_V6_TO_V4, TP_PAIRS };

static TP_INLINE enum tp_pair tp_pair_of(bool v4_in, bool v4_out)
{
	if (v4_in == v4_out)
		return v4_in ? TP_V4_TO_V4 : TP_V6_TO_V6;
	return v4_in ? TP_V4_TO_V6 : TP_V6_TO_V4;
}

struct tp_flow_key {
	uint64_t remote[2];
	union {
		struct {
			tp_be16 remote_port;
			tp_be16 local_port;
			tp_be16 channel;
			uint8_t local;
			uint8_t kind; /* enum tp_flow_kind */
		};
		uint64_t ident; /* 0 = no record here: the word that publishes and removes */
	};
};

enum tp_relay_family { TP_RELAY_V4, TP_RELAY_V6, TP_RELAYS };

/*
 * A relayed transport address of a client, as its CLIENT flow names it. It comes and goes while the
 * record is live: read the word, then look at the copy.
 */
struct tp_relay_ref {
	union {
		struct {
			tp_be16 port;
			uint8_t local;
			uint8_t used; /* 0 = the allocation has none of this family */
			uint32_t zero;
		};
		uint64_t word;
	};
};

/* The peer is a relayed address of this server: look up (this relay, that relay) again. */
#define TP_FLOW_HAIRPIN 1
/*
 * CHANNEL and PEER, and nothing about them needs another look (common.h): both sides have the same
 * family, the remotes are addresses that may be, there is no hairpin and no bandwidth limit.
 */
#define TP_FLOW_PLAIN 2

struct tp_flow_value {
	union {
		uint64_t remote[2];
		struct tp_relay_ref relays[TP_RELAYS]; /* CLIENT: nothing else is set then */
	};
	tp_be16 local_port; /* these two as in the UDP header that leaves */
	tp_be16 remote_port;
	tp_be16 channel;
	uint8_t local;
	uint8_t flags; /* TP_FLOW_HAIRPIN: CHANNEL and PERMISSION; TP_FLOW_PLAIN */
};

/* A flow arrives on one queue, so each has one writer: plain adds. Sends count at CLIENT. */
struct tp_flow_counters {
	uint64_t packets;
	uint64_t bytes; /* UDP payload as the peer sees it */
};

/*
 * All that a packet of media reads or writes of its flow: one cache line, and no other beside it
 * that processors would fetch along with it. The rest is in the detail of the same slot.
 */
struct tp_flow {
	struct tp_flow_key key;
	struct tp_flow_value value;
	uint32_t expires;  /* ticks; a packet at or after it is not relayed */
	uint32_t recent;   /* counted, and not yet carried over to the detail: TP_RECENT_* */
	uint16_t next_hop; /* index into the next hops */
	union {
		/*
		 * One's complement sum of what the rewrite always changes under the UDP checksum:
		 * new addresses, ports and channel number minus the old ones, and the ChannelData
		 * header that the two lengths gain or lose. What differs by packet is the data's
		 * length and padding. Right for every pair of families. CHANNEL and PEER only.
		 */
		uint16_t sum_delta;
		/* PERMISSION: next hop to the peer, for Send; next_hop leads to the client. */
		uint16_t peer_hop;
	};
	union {
		uint32_t label; /* IPv6: flow label (RFC 6437), low 20 bits */
		struct {
			uint16_t id_mix; /* IPv4: mixed into the identification */
			/* Likewise, under the header's checksum: addresses, length, TTL. */
			uint16_t ip_sum_delta;
		};
	};
} __attribute__((aligned(64)));

/*
 * `recent`: bytes below, packets above them, each with a bit on top that says that it is time to
 * carry both over; the last bit is that of `carries`, which tells a reader which of the two words
 * he sees is the older one (count.h, table.c). 256 packets or 2 MiB, so the detail is written
 * rarely.
 */
#define TP_RECENT_BYTES   UINT32_C(0x003fffff)
#define TP_RECENT_PACKET  (UINT32_C(1) << 22)
#define TP_RECENT_FULL    (UINT32_C(1) << 21 | UINT32_C(1) << 30)
#define TP_RECENT_CARRIES (UINT32_C(1) << 31)

/* What only the rarer ways and the control plane want to know of a flow. By slot. */
struct tp_flow_detail {
	struct tp_flow_counters counters; /* without what is recent */
	uint32_t carries;                 /* how often that was added */
	uint32_t allocation;              /* number of the allocation */
	uint32_t policer; /* of the allocation: index into the policers; 0 = no limit */
	/*
	 * Ticks: until when the client has it granted, however long its relay lives and, for PEER,
	 * its permission. For the writer's successor; readers go by `expires`.
	 */
	uint32_t granted;
};

/* All that was counted, by one who looks while nobody writes. */
static TP_INLINE struct tp_flow_counters tp_flow_counted(
	const struct tp_flow_detail *detail, uint32_t recent)
{
	return (struct tp_flow_counters){
		.packets =
			detail->counters.packets + (recent & ~TP_RECENT_CARRIES) / TP_RECENT_PACKET,
		.bytes = detail->counters.bytes + (recent & TP_RECENT_BYTES),
	};
}

/* 8 bits of the hash per slot, 0 = empty: small enough to stay in cache at 10^6 flows. */
struct tp_bucket {
	uint8_t tags[TP_BUCKET_SLOTS];
} __attribute__((aligned(8)));

struct tp_local {
	uint64_t ip[2]; /* v4-mapped or IPv6, network order */
};

enum tp_port_state {
	TP_PORT_NOT_OURS = 0,
	TP_PORT_RELAY,    /* UDP client: what matches no flow is dropped */
	TP_PORT_SLOW,     /* relay port whose packets the control plane needs to see */
	TP_PORT_LISTENER, /* a STUN/TURN listener */
};

/* By the last byte of the address. */
static TP_INLINE uint64_t tp_own_bit(const uint64_t ip[2])
{
	return UINT64_C(1) << (ip[1] >> 56 & 63);
}

struct tp_ports {
	uint8_t state[65536]; /* enum tp_port_state by port number, host order */
};

/*
 * A resolved neighbour. `seq` is odd while the record is invalid or being written: read it, copy,
 * read it again; unequal or odd means "no next hop".
 */
struct tp_next_hop {
	uint32_t seq;
	uint32_t ifindex;
	uint8_t destination[6];
	uint8_t source[6];
	tp_be16 vlan;       /* tag control information with TPID 0x8100; 0 = untagged */
	uint16_t mtu;       /* largest IP packet */
	uint16_t interface; /* place in the engine's list of interfaces */
	uint16_t zero[3];
};

struct tp_config {
	uint32_t magic;
	uint32_t abi;
	uint64_t layout; /* tp_layout_hash() */
	/*
	 * The one word that readers ask: the layout, once all else is valid and while the data
	 * plane is switched on; anything else = everything to the kernel.
	 */
	uint64_t gate;
	uint32_t unplaced; /* granted flows that found no slot */
	uint32_t buckets;
	uint32_t locals;      /* entries in use */
	uint16_t channel_max; /* 0x4fff; 0x7ffe for RFC 5766 clients */
	uint16_t zero[3];
	uint32_t byte_ns;    /* the bandwidth limit: ns a byte of data, in 1/1024; 0 = none */
	uint64_t salt[3];    /* key of tp_flow_hash(): secret */
	uint64_t backlog_ns; /* how far ahead of its rate an allocation may send */
	uint64_t own_mask;   /* tp_own_bit() of every local: most others are none at first sight */
	/* The writer's, so that its successor computes the same. */
	uint64_t label_key[2]; /* of flow labels */
	uint64_t owner_key[2]; /* of the hashes in struct tp_kept */
};

/*
 * One allocation's bandwidth, each direction by itself: the time up to which what it has sent is
 * paid for (GCRA, ITU-T I.371). Several readers and the slow path move it: compare-and-swap.
 */
struct tp_policer {
	uint64_t paid_until_ns[TP_DIRECTIONS]; /* CLOCK_MONOTONIC */
};

#define TP_KEPT_NAME 40

/*
 * What a restarted control plane has to know of an allocation beside its flows. Nobody else reads
 * it. No keys, no passwords (threat D21): who owns it is a hash. Single words change while it is
 * valid: the two of each relay. Written: all else, then `id`; removed: `id` first.
 */
struct tp_kept {
	uint32_t id; /* of the allocation; 0 = none here */
	tp_be16 client_port, server_port;
	uint64_t client[2];
	uint64_t owner[2]; /* keyed hash of the user's name */
	uint64_t quota;    /* and of the part of it that quotas count */
	struct {
		struct tp_relay_ref ref;
		uint64_t expires_ns; /* CLOCK_MONOTONIC */
	} relays[TP_RELAYS];
	uint8_t server; /* index of the local address */
	uint8_t transport;
	uint8_t time_limited; /* the user's name says when it ends */
	uint8_t name_len;
	uint32_t zero;
	char name[TP_KEPT_NAME]; /* the first bytes of the user's, for people */
} __attribute__((aligned(64)));

struct tp_worker_counters {
	uint64_t verdicts[TP_VERDICT_CELLS]; /* packets by enum tp_verdict; RELAYED: see relayed */
	struct tp_flow_counters relayed[TP_DIRECTIONS][TP_PAIRS];
	uint64_t hairpins; /* of those: packets that counted once in each direction */

	/* Polling workers only. */
	uint64_t bursts;  /* that brought packets */
	uint64_t polls;   /* all of them */
	uint64_t busy_ns; /* spent on bursts that brought packets */
	uint64_t up_ns;   /* since the worker began */
	uint64_t epoch;   /* odd while a burst is worked on: records are held; even between */
	uint64_t outputs; /* relayed by the kernel's IP output, and counted by their verdict too */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct tp_flow_key) == 24, "three words");
_Static_assert(sizeof(struct tp_flow_value) == 24, "three words");
_Static_assert(sizeof(struct tp_relay_ref) == 8, "two beside each other are an address");
_Static_assert(sizeof(struct tp_flow) == 64, "one cache line");
_Static_assert(sizeof(struct tp_flow_detail) == 32, "two a cache line");
_Static_assert(sizeof(struct tp_kept) == 128, "a pair of cache lines");
_Static_assert(sizeof(struct tp_bucket) == 8, "eight buckets a cache line, and a word each");
_Static_assert(sizeof(struct tp_next_hop) == 32, "two a cache line");

/*
 * Keyed hash of a flow key: NH (UMAC, RFC 4418): with a secret salt, two chosen keys collide with
 * probability 2^-32; then a mixer spreads the 64 bits. Three multiplications of 32 x 32 bits, since
 * BPF has no wider ones; SipHash on the same key would cost half of the packet's budget.
 */
static TP_INLINE uint64_t tp_nh(uint64_t word, uint64_t salt)
{
	uint32_t low = (uint32_t)word + (uint32_t)salt;
	uint32_t high = (uint32_t)(word >> 32) + (uint32_t)(salt >> 32);

	return (uint64_t)low * high;
}

static TP_INLINE uint64_t tp_flow_hash(const struct tp_flow_key *key, const uint64_t salt[3])
{
	uint64_t h = tp_nh(key->remote[1], salt[1]) + tp_nh(key->ident, salt[2]);

	if (key->remote[0]) /* IPv6 */
		h += tp_nh(key->remote[0], salt[0]);
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return h ^ (h >> 32);
}

/*
 * Tables of at most so many buckets (room for 65,536 flows) are near: readers look home first,
 * which takes the fewest instructions. In larger ones waiting for memory is what counts.
 */
#define TP_BUCKETS_NEAR 16384

/*
 * Where a flow may lie, and the tag it has there: two buckets to choose from. In a table with room
 * most flows lie at home, where readers look first: one tag tells instead of sixteen. Each half of
 * the hash is a fraction of the table, so that this may have any number of buckets, up to 2^24: the
 * lowest bits, of which the tag is made, then say nothing about the bucket.
 */
struct tp_place {
	uint32_t home; /* a slot of the first bucket */
	uint32_t bucket[2];
	uint8_t tag; /* never 0 */
};

static TP_INLINE struct tp_place tp_place_of(uint64_t hash, uint32_t buckets)
{
	uint64_t first = (uint64_t)(uint32_t)hash * buckets;
	uint8_t tag = (uint8_t)(hash >> 32);

	return (struct tp_place){
		.home = (uint32_t)(first * TP_BUCKET_SLOTS >> 32),
		.bucket = {(uint32_t)(first >> 32), (uint32_t)((hash >> 32) * buckets >> 32)},
		.tag = tag ? tag : 1,
	};
}
