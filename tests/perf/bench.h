/* What the bench's BPF programs and their loader share. */
#pragma once

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>

#define BENCH_LISTENER_PORT 3478
#define BENCH_PEER_PORT     10000 /* channel n of an allocation leads to this port + n */
#define BENCH_PEER_PORTS    5000
#define BENCH_SEND_PORT     14999 /* no channel leads there: where Send indications go */
#define BENCH_PEERS         32    /* channel n leads to the host n % 32 addresses further on */

enum { BENCH_SENT, BENCH_RECEIVED, BENCH_COUNTERS };

#define BENCH_SEND_LEN 36 /* of a Send indication's header, XOR-PEER-ADDRESS and DATA's header */

struct bench_frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	__be16 udp_len;
	__be16 channel_len;
	__u32 is_send; /* what stands before the data is `send`, else channel and length */
	__u8 send[BENCH_SEND_LEN];
	__be16 sink_port; /* counted by the sink besides the peers' ports; 0 = none */
};

/* One flow: what differs from frame to frame. */
struct bench_target {
	__be16 source_port, destination_port;
	__be16 channel;
	__sum16 checksum;
};
