-- DPDK Pktgen replays the flows of a capture file: a no-loss throughput search (RFC 2544, 26.1), and the
-- loss at fixed shares of the line rate.
--
-- flows.pcap is of allocations that live (README.md). Port 0 sends to the relay; what it relays comes back
-- to port 1, or to port 0 where client and peer are one port. One frame size a file: run it once for each.
--
--   pktgen -l 2-6 -n 4 -a 0000:65:00.0 -a 0000:65:00.1 -- -P -m "[3:4].0,[5:6].1" \
--          -s 0:flows.pcap -f dpdk-pktgen.lua
--
-- Settings come from the environment, so that the file stays as it is:
--
--   RECEIVE_PORT   1      where relayed packets arrive
--   TRIAL_S        60     seconds of a trial (RFC 2544, 24)
--   RESOLUTION     0.1    percent of the line rate at which the search ends
--   MIN_RATE       0.1    percent; losses there mean that something else is wrong
--   LOSS_ALLOWED   0      packets in a million: 0 is RFC 2544's, some NICs and kernels never reach it
--   FIXED          10,50  percent of the line rate at which only the loss is told; empty for none

local SEND = "0"

local function setting(name, otherwise)
	local text = os.getenv(name)

	return text and (tonumber(text) or text) or otherwise
end

local receive = tostring(setting("RECEIVE_PORT", 1))
local trial_ms = setting("TRIAL_S", 60) * 1000
local resolution = setting("RESOLUTION", 0.1)
local min_rate = setting("MIN_RATE", 0.1)
local allowed = setting("LOSS_ALLOWED", 0)
local fixed = tostring(setting("FIXED", "10,50"))

local SETTLE_MS = 2000 -- what is on its way arrives (RFC 2544, 23)

local function counted(port, name)
	return pktgen.portStats(port, "port")[tonumber(port)][name]
end

-- Sends for a trial's time at a percentage of the line rate; returns sent and received.
local function trial(rate)
	pktgen.clr()
	pktgen.delay(200)
	pktgen.set(SEND, "rate", rate)
	pktgen.start(SEND)
	pktgen.delay(trial_ms)
	pktgen.stop(SEND)
	pktgen.delay(SETTLE_MS)
	local sent, received = counted(SEND, "opackets"), counted(receive, "ipackets")

	print(string.format("%7.3f %%  sent %d  received %d  lost %d", rate, sent, received, sent - received))
	return sent, received
end

local function is_whole(rate)
	local sent, received = trial(rate)

	return sent > 0 and (sent - received) * 1000000 <= sent * allowed, sent
end

-- The highest rate without loss, by halving; nil where even the lowest loses.
local function search()
	local good, bad = min_rate, 100
	local whole, sent = is_whole(good)

	if not whole then
		return nil
	end
	local best = sent
	whole, sent = is_whole(bad)
	if whole then
		return bad, sent
	end
	while bad - good > resolution do
		local rate = (good + bad) / 2

		whole, sent = is_whole(rate)
		if whole then
			good, best = rate, sent
		else
			bad = rate
		end
	end
	return good, best
end

local function main()
	pktgen.screen("off")
	pktgen.set(SEND, "count", 0)
	pktgen.pcap(SEND, "on")
	for rate in fixed:gmatch("[%d.]+") do
		trial(tonumber(rate))
	end
	local rate, sent = search()

	if rate then
		print(string.format("no loss up to %.3f %% of the line rate, %.0f packets a second", rate,
			sent / (trial_ms / 1000)))
	else
		print(string.format("losses at %.3f %% already: look at counters before figures", min_rate))
	end
	pktgen.quit()
end

main()
