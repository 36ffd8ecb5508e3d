"""
TRex profile (stateless): the flows of a capture file, each as a continuous stream, and a latency stream
beside them.

flows.pcap is of allocations that live (README.md). In the TRex console, port 0 towards the relay, port 1
where relayed packets arrive:

    start -f trex_profile.py -p 0 -m 2mpps -d 60 -t pcap=flows.pcap
    stats                                   opackets of 0 less ipackets of 1 is what was lost
    stats -l                                latency of the measured stream
    start -f trex_profile.py -p 0 -m 20kpps -d 60 -t pcap=flows.pcap,latency_pps=1000

-m multiplies; 1 packet a second of each flow is the profile's own rate, so that -m 2mpps is 2 million
in all. TRex takes some ten thousand streams: for more flows use DPDK Pktgen or testpmd. Frame sizes are
those of the capture: one file for each size of the method (README.md).
"""

import argparse

from trex_stl_lib.api import (PcapReader, STLFlowLatencyStats, STLPktBuilder, STLProfile, STLStream,
                              STLTXCont, UDP)

STREAMS_MAX = 10_000
LATENCY_ID = 7
LATENCY_LEN = 16  # TRex writes time and sequence into the frame's last bytes


def packets_of(path):
    packets = []
    with PcapReader(path) as reader:
        for packet in reader:
            packets.append(packet)
            if len(packets) == STREAMS_MAX:
                break
    if not packets:
        raise ValueError(f"{path}: no packets")
    return packets


def without_checksum(packet):
    """
    The payload changes under way and nobody sums it up again: 0 says that there is no checksum. With DF
    set the relay keeps the identification, by which TRex knows its latency packets.
    """
    packet = packet.copy()
    packet[UDP].chksum = 0
    packet["IP"].flags = "DF"
    return packet


class Relayed:
    def get_streams(self, direction=0, tunables=(), **_):
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--pcap", default="flows.pcap")
        parser.add_argument("--latency_pps", type=float, default=0)
        options = parser.parse_args(tunables)
        packets = packets_of(options.pcap)
        streams = [STLStream(packet=STLPktBuilder(pkt=packet), mode=STLTXCont(pps=1))
                   for packet in packets]
        if options.latency_pps:
            first = without_checksum(packets[0])
            if len(bytes(first)) < 46 + LATENCY_LEN:
                raise ValueError("latency needs frames of at least 62 bytes")
            streams.append(STLStream(packet=STLPktBuilder(pkt=first),
                                     mode=STLTXCont(pps=options.latency_pps),
                                     flow_stats=STLFlowLatencyStats(pg_id=LATENCY_ID)))
        return STLProfile(streams).get_streams()


def register():
    return Relayed()
