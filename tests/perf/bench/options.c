#include "options.h"

#include "tests/perf/frame.h"

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define ALLOCATIONS_MAX 1000000
#define ADDRESSES_MAX   65536
#define WINDOW_MAX      65536
#define DURATION_MAX_S  31536000
#define FIRST_PORT      1024
#define PASSWORD_ENV    "TURNPIKE_PASSWORD"

static const char usage[] =
	"usage: turnpike-bench relay    --server A:P --user U --peer A[:P] [OPTION...]\n"
	"       turnpike-bench allocate --server A:P --user U --peer A[:P] [OPTION...]\n"
	"       turnpike-bench pcap     --server A:P --user U --peer A[:P] --local A[:P]\n"
	"                               -o FILE [--down FILE] [OPTION...]\n"
	"\n"
	"A TURN client that makes allocations, each with a channel. `relay` then sends numbered,\n"
	"time-stamped packets through them, plays the peer itself, and reports what was lost and how\n"
	"long the others took. `allocate` reports what making them took. They are deleted at the end,\n"
	"also when Ctrl-C or SIGTERM ends it early; what was measured until then is reported.\n"
	"`pcap` writes a frame for each as capture files, for generators that replay such, and leaves\n"
	"the allocations to their lifetime.\n"
	"\n"
	"  --server A:P       the TURN server, UDP\n"
	"  --user U           long-term credentials\n"
	"  --password W       likewise; better in the environment, as " PASSWORD_ENV "\n"
	"  --peer A[:P]       an address of this machine (or of --peer-netns) to be the peer\n"
	"  --peers N          there are N of them, from A upwards\n"
	"  --local A[:P]      the clients' address, and their first port; default: as the machine's\n"
	"                     routes say, and any port\n"
	"  --locals N         there are N of them, from A upwards, with the same ports each\n"
	"  --allocations N    default 1, up to 1000000; each is a socket with sockets and gso\n"
	"  --window N         that many being made at a time; default 64\n"
	"  --lifetime S       of allocations, as asked for; default 600, for pcap 3600\n"
	"  --renew S          renew allocations, channels and permissions so often; default 240\n"
	"  --backend B        sockets: sendmmsg, the default\n"
	"                     gso: likewise, packets in a row go to the kernel as one (UDP_SEGMENT)\n"
	"                     The others make frames, for any number of clients, and need root and\n"
	"                     --local; the clients' interface is not the peer's:\n"
	"                     afxdp: AF_XDP sockets\n"
	"                     xdp: likewise, and sent by an XDP program as live frames\n"
	"                     dpdk: ports that DPDK drives\n"
	"  --client-device D  dpdk: the clients' port: a PCI address (0000:03:00.0) or a virtual\n"
	"                     device of DPDK (net_af_packet0,iface=eth1)\n"
	"  --peer-device D    dpdk: the peer's\n"
	"  --client-gateway G dpdk: IP or MAC address of the clients' router; default: the server is\n"
	"                     on their link\n"
	"  --peer-gateway G   dpdk: the peer's\n"
	"  --eal ARGUMENTS    dpdk: for EAL, separated by blanks\n"
	"  --keep             at the end keep the allocations, and renew them, until Ctrl-C or SIGTERM\n"
	"  --client-netns N   the clients are in this network namespace (needs root)\n"
	"  --peer-netns N     the peer is in this one (needs root)\n"
	"  --pid PID          also report what this process costs\n"
	"  --json             one JSON document instead of text\n"
	"  --progress S       a line on stderr so often, 0: none; default: each 10 s, and on a\n"
	"                     terminal twice a second\n"
	"relay:\n"
	"  --direction D      up (client to peer), down or both; default up\n"
	"  --rate R           packets a second in each direction, or max; default 1000. Several,\n"
	"                     separated by commas: one step after the other\n"
	"  --active N         only so many of the allocations carry packets; several: as --rate\n"
	"  --search LOW-HIGH  instead of --rate: the highest rate between these that does not lose\n"
	"                     more than --max-loss (default then: 0)\n"
	"  --size BYTES       application data of a packet, 32 to 1400; default 172 (pcap too)\n"
	"  --mix rtp          instead of --rate and --size, each allocation is a call: audio, 50\n"
	"                     packets a second of 160 to 172 bytes, and video, 30 frames of 3 to 6\n"
	"                     packets of 1000 to 1200 bytes; 185 packets a second in each direction\n"
	"  --order O          of allocations: turns (default) or random (pcap too)\n"
	"  --duration S       of a step; default 10\n"
	"  --warm-up S        before that, send without counting; default 0\n"
	"  --max-loss PCT     more lost than that, in percent: exit code 1\n"
	"  --html FILE        also a page with charts\n"
	"pcap:\n"
	"  -o, --out FILE     what clients send: ChannelData\n"
	"  --down FILE        what peers send to the relayed addresses\n"
	"  --flows FILE       lines \"peer-port relay-port 0\", for tests/perf/pktgen/kernel-pktgen\n"
	"  --frame BYTES      instead of --size: frames on the wire, check sequence included, 64 to\n"
	"                     1518\n"
	"\n"
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 done, 1 failed or more lost than --max-loss, 2 wrong usage.\n";

enum {
	SERVER = 256,
	USER,
	PASSWORD,
	PEER,
	PEERS,
	LOCAL,
	LOCALS,
	ALLOCATIONS,
	WINDOW,
	LIFETIME,
	RENEW,
	BACKEND,
	CLIENT_NETNS,
	PEER_NETNS,
	PID,
	JSON,
	PROGRESS,
	DIRECTION,
	RATE,
	ACTIVE,
	SEARCH,
	SIZE,
	MIX,
	ORDER,
	DURATION,
	WARM_UP,
	MAX_LOSS,
	KEEP,
	HTML,
	DOWN,
	FLOWS,
	FRAME,
	CLIENT_DEVICE,
	PEER_DEVICE,
	CLIENT_GATEWAY,
	PEER_GATEWAY,
	EAL,
	HELP,
	VERSION
};

static const struct option known[] = {{"server", 1, 0, SERVER}, {"user", 1, 0, USER},
	{"password", 1, 0, PASSWORD}, {"peer", 1, 0, PEER}, {"peers", 1, 0, PEERS},
	{"local", 1, 0, LOCAL}, {"locals", 1, 0, LOCALS}, {"allocations", 1, 0, ALLOCATIONS},
	{"window", 1, 0, WINDOW}, {"lifetime", 1, 0, LIFETIME}, {"renew", 1, 0, RENEW},
	{"backend", 1, 0, BACKEND}, {"client-netns", 1, 0, CLIENT_NETNS},
	{"peer-netns", 1, 0, PEER_NETNS}, {"pid", 1, 0, PID}, {"json", 0, 0, JSON},
	{"progress", 1, 0, PROGRESS}, {"direction", 1, 0, DIRECTION}, {"rate", 1, 0, RATE},
	{"active", 1, 0, ACTIVE}, {"search", 1, 0, SEARCH}, {"size", 1, 0, SIZE},
	{"mix", 1, 0, MIX}, {"order", 1, 0, ORDER}, {"duration", 1, 0, DURATION},
	{"warm-up", 1, 0, WARM_UP}, {"max-loss", 1, 0, MAX_LOSS}, {"keep", 0, 0, KEEP},
	{"html", 1, 0, HTML}, {"out", 1, 0, 'o'}, {"down", 1, 0, DOWN}, {"flows", 1, 0, FLOWS},
	{"frame", 1, 0, FRAME}, {"client-device", 1, 0, CLIENT_DEVICE},
	{"peer-device", 1, 0, PEER_DEVICE}, {"client-gateway", 1, 0, CLIENT_GATEWAY},
	{"peer-gateway", 1, 0, PEER_GATEWAY}, {"eal", 1, 0, EAL}, {"help", 0, 0, HELP},
	{"version", 0, 0, VERSION}, {0}};

/* What becomes steps, once all is read. */
struct lists {
	uint64_t rates[STEPS_MAX], actives[STEPS_MAX];
	unsigned rates_count, actives_count;
};

static uint64_t number(const char *name, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || value < least || value > most)
		errx(2, "--%s: %s is not a number from %llu to %llu", name, text,
			(unsigned long long)least, (unsigned long long)most);
	return value;
}

static double decimal(const char *name, const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most))
		errx(2, "--%s: %s is not a number from %g to %.10g", name, text, least, most);
	return value;
}

/* Words are what they stand for. */
static unsigned word(const char *name, const char *text, const char *const words[], unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(words[i], text) == 0)
			return i;
	}
	fprintf(stderr, "turnpike-bench: --%s: %s is none of", name, text);
	for (unsigned i = 0; i < count; i++)
		fprintf(stderr, "%s %s", i ? "," : "", words[i]);
	fputc('\n', stderr);
	exit(2);
}

#define WORD(name, text, ...)                                                                      \
	word(name, text, (const char *const[]){__VA_ARGS__},                                       \
		sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static const char *const backends[] = {
	[BACKEND_SOCKETS] = "sockets",
	[BACKEND_GSO] = "gso",
	[BACKEND_AFXDP] = "afxdp",
	[BACKEND_XDP] = "xdp",
	[BACKEND_DPDK] = "dpdk",
};

const char *backend_name(enum backend backend)
{
	return backends[backend];
}

/* Numbers separated by commas; `zero` is a word that stands for 0, or NULL. */
static unsigned read_list(
	const char *name, char *text, const char *zero, uint64_t most, uint64_t out[STEPS_MAX])
{
	unsigned count = 0;
	char *state;

	for (char *part = strtok_r(text, ",", &state); part; part = strtok_r(NULL, ",", &state)) {
		if (count == STEPS_MAX)
			errx(2, "--%s: more than %d", name, STEPS_MAX);
		out[count++] = zero && strcmp(part, zero) == 0 ? 0 : number(name, part, 1, most);
	}
	if (!count)
		errx(2, "--%s: nothing", name);
	return count;
}

static void read_search(char *text, struct options *o)
{
	char *high = strchr(text, '-');

	if (!high)
		errx(2, "--search: %s is not LOW-HIGH", text);
	*high++ = '\0';
	o->search_high = number("search", high, 1, 1000000000);
	o->search_low = number("search", text, 1, o->search_high);
}

static void read_direction(const char *text, struct options *o)
{
	unsigned d = WORD("direction", text, "up", "down", "both");

	o->directions[DIRECTION_UP] = d != 1;
	o->directions[DIRECTION_DOWN] = d != 0;
}

/* From the first moment on that is ours, nobody can read it in the list of processes. */
static const char *take_password(char *text)
{
	char *copy = strdup(text);

	if (!copy)
		err(1, "--password");
	memset(text, '*', strlen(text));
	warnx("--password: others may have read it from the command line; better in the "
	      "environment, as " PASSWORD_ENV);
	return copy;
}

static void read_address(const char *name, const char *text, struct tp_addr *out)
{
	if (tp_addr_parse(text, out) < 0 && tp_addr_parse_ip(text, out) < 0)
		errx(2, "--%s: %s is not ADDRESS or ADDRESS:PORT", name, text);
}

static void read_clients(int option, char *text, struct options *o)
{
	struct clients_settings *c = &o->clients;

	switch (option) {
	case SERVER:
		if (tp_addr_parse(text, &c->server) < 0 || c->server.port == 0)
			errx(2, "--server: %s is not ADDRESS:PORT", text);
		break;
	case USER:
		c->user = text;
		break;
	case PASSWORD:
		c->password = take_password(text);
		break;
	case PEER:
		read_address("peer", text, &o->peers.first);
		break;
	case PEERS:
		o->peers.addresses = (uint32_t)number("peers", text, 1, ADDRESSES_MAX);
		break;
	case LOCAL:
		read_address("local", text, &o->locals.first);
		break;
	case LOCALS:
		o->locals.addresses = (uint32_t)number("locals", text, 1, ADDRESSES_MAX);
		break;
	case ALLOCATIONS:
		c->allocations = (unsigned)number("allocations", text, 1, ALLOCATIONS_MAX);
		break;
	case WINDOW:
		c->window = (unsigned)number("window", text, 1, WINDOW_MAX);
		break;
	case LIFETIME:
		c->lifetime_s = (unsigned)number("lifetime", text, 1, UINT32_MAX);
		break;
	default: /* RENEW */
		c->renew_s = (unsigned)number("renew", text, 1, 3600);
	}
}

static void read_relay(int option, char *text, struct options *o, struct lists *l)
{
	switch (option) {
	case DIRECTION:
		read_direction(text, o);
		break;
	case RATE:
		l->rates_count = read_list("rate", text, "max", 1000000000, l->rates);
		break;
	case ACTIVE:
		l->actives_count = read_list("active", text, NULL, ALLOCATIONS_MAX, l->actives);
		break;
	case SEARCH:
		read_search(text, o);
		break;
	case SIZE:
		o->size = (uint16_t)number("size", text, PACKET_SIZE_MIN, PACKET_SIZE_MAX);
		break;
	case MIX:
		WORD("mix", text, "rtp");
		o->mix = MIX_RTP;
		break;
	case ORDER:
		o->random = WORD("order", text, "turns", "random") == 1;
		break;
	case DURATION:
		o->duration_s = decimal("duration", text, 0.1, DURATION_MAX_S);
		break;
	case WARM_UP:
		o->warm_up_s = decimal("warm-up", text, 0, DURATION_MAX_S);
		break;
	default: /* MAX_LOSS */
		o->max_loss = decimal("max-loss", text, 0, 100);
	}
}

/* What was not built in is refused by itself: it is no mistake. */
static void read_backend(const char *text, struct options *o)
{
	o->backend = (enum backend)word(
		"backend", text, backends, sizeof(backends) / sizeof(backends[0]));
#ifndef HAVE_AFXDP
	if (o->backend == BACKEND_AFXDP || o->backend == BACKEND_XDP)
		errx(2, "--backend: this turnpike-bench was built without AF_XDP");
#endif
#ifndef HAVE_DPDK
	if (o->backend == BACKEND_DPDK)
		errx(2, "--backend: this turnpike-bench was built without DPDK");
#endif
}

static void read_dpdk(int option, const char *text, struct options *o)
{
	switch (option) {
	case CLIENT_DEVICE:
		o->client_device = text;
		break;
	case PEER_DEVICE:
		o->peer_device = text;
		break;
	case CLIENT_GATEWAY:
		o->client_gateway = text;
		break;
	case PEER_GATEWAY:
		o->peer_gateway = text;
		break;
	default: /* EAL */
		o->eal = text;
	}
}

static void read_option(int option, char *text, struct options *o)
{
	switch (option) {
	case BACKEND:
		read_backend(text, o);
		break;
	case CLIENT_NETNS:
		o->client_netns = text;
		break;
	case PEER_NETNS:
		o->peer_netns = text;
		break;
	case PID:
		o->pid = (pid_t)number("pid", text, 1, INT32_MAX);
		break;
	case JSON:
		o->json = true;
		break;
	case PROGRESS:
		o->progress_s = decimal("progress", text, 0, DURATION_MAX_S);
		break;
	case KEEP:
		o->keep = true;
		break;
	case 'o':
		o->up_pcap = text;
		break;
	case HTML:
		o->html = text;
		break;
	case DOWN:
		o->down_pcap = text;
		break;
	case FLOWS:
		o->flows = text;
		break;
	case FRAME:
		o->frame = (uint16_t)number("frame", text, 64, FRAME_MAX + FRAME_FCS);
		break;
	case HELP:
		fputs(usage, stdout);
		exit(0);
	case VERSION:
		puts("turnpike-bench " TURNPIKE_VERSION);
		exit(0);
	default: /* getopt has said what is wrong */
		fputs("see turnpike-bench --help\n", stderr);
		exit(2);
	}
}

/* Each number of active allocations with each rate. */
static void make_steps(struct options *o, struct lists *l)
{
	if (!l->rates_count && o->mix == MIX_NONE)
		l->rates[l->rates_count++] = 1000;
	else if (!l->rates_count)
		l->rates_count = 1;
	if (!l->actives_count)
		l->actives[l->actives_count++] = o->clients.allocations;
	if (l->rates_count * l->actives_count > STEPS_MAX)
		errx(2, "--rate, --active: more than %d steps", STEPS_MAX);
	for (unsigned a = 0; a < l->actives_count; a++) {
		if (l->actives[a] > o->clients.allocations)
			errx(2, "--active: more than --allocations");
		for (unsigned r = 0; r < l->rates_count; r++)
			o->steps[o->steps_count++] =
				(struct step){l->rates[r], (uint32_t)l->actives[a]};
	}
}

static void check_steps(struct options *o, struct lists *l)
{
	if (o->mix != MIX_NONE && (l->rates_count || o->search_high || o->random))
		errx(2, "--mix: calls have rates and an order of their own; try --active");
	if (o->search_high && (l->rates_count || l->actives_count > 1))
		errx(2, "--search: not with --rate, nor with several --active");
	if (o->search_high && o->max_loss > 100)
		o->max_loss = 0;
	make_steps(o, l);
}

/* Who writes frames itself has to know from where. */
static bool needs_local(const struct options *o)
{
	return o->command == BENCH_PCAP || backend_makes_frames(o->backend);
}

static void check_ranges(struct options *o)
{
	uint32_t count = o->clients.allocations, addresses = o->locals.addresses;

	if ((addresses > 1 || needs_local(o)) && !o->locals.first.port)
		o->locals.first.port = FIRST_PORT;
	o->locals.ports = (count + addresses - 1) / addresses;
	if (!o->locals.first.port)
		o->locals.ports = 1;
	if (range_check(&o->locals) < 0)
		errx(2,
			"--local, --locals: there are not so many addresses, or not so many ports: "
			"%u are needed on each",
			o->locals.ports);
	if (range_check(&o->peers) < 0)
		errx(2, "--peers: there are not so many addresses");
}

static void check_command(const struct options *o)
{
	bool writes = o->up_pcap || o->down_pcap || o->flows;

	if (writes != (o->command == BENCH_PCAP))
		errx(2, "pcap is what --out, --down and --flows are for, and needs one of them");
	if (o->html && o->command != BENCH_RELAY)
		errx(2, "--html: for relay");
	if (o->frame && o->command != BENCH_PCAP)
		errx(2, "--frame: for pcap");
}

static void check_dpdk(const struct options *o)
{
	bool is_dpdk = o->backend == BACKEND_DPDK;

	if (!is_dpdk && (o->client_device || o->peer_device || o->client_gateway ||
				o->peer_gateway || o->eal))
		errx(2, "--client-device, --peer-device, --client-gateway, --peer-gateway, --eal: for "
			"--backend dpdk");
	if (is_dpdk && (!o->client_device || !o->peer_device))
		errx(2, "--backend dpdk: --client-device and --peer-device are needed");
	if (is_dpdk && strcmp(o->client_device, o->peer_device) == 0)
		errx(2, "--backend dpdk: the clients' port cannot be the peer's");
	if (is_dpdk && o->command == BENCH_PCAP)
		errx(2, "pcap asks the kernel for MAC addresses: not with --backend dpdk");
}

static void check(struct options *o, struct lists *l)
{
	struct clients_settings *c = &o->clients;

	if (!c->password)
		c->password = getenv(PASSWORD_ENV);
	if (!c->server.family || !o->peers.first.family || !c->user || !c->password)
		errx(2, "--server, --user, --peer and a password are needed");
	if (o->peers.first.family != c->server.family)
		errx(2, "--peer: must be of the server's family, as the relayed addresses are");
	if (!o->locals.first.family && o->locals.addresses > 1)
		errx(2, "--locals: --local says which is the first");
	if (!o->locals.first.family && needs_local(o))
		errx(2, "--local is needed, for the frames");
	if (!o->locals.first.family)
		o->locals.first =
			tp_addr_make((enum tp_family)c->server.family, (const uint8_t[16]){0}, 0);
	if (o->locals.first.family != c->server.family)
		errx(2, "--local: must be of the server's family");
	if (!c->lifetime_s)
		c->lifetime_s = o->command == BENCH_PCAP ? 3600 : 600;
	check_command(o);
	check_dpdk(o);
	check_ranges(o);
	check_steps(o, l);
}

static void read_command(int argc, char *argv[], struct options *o)
{
	static const char *const commands[] = {"relay", "allocate", "pcap"};

	if (optind != argc - 1)
		errx(2, "one command is needed: relay, allocate or pcap");
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[optind], commands[i]) == 0) {
			o->command = (enum command)i;
			return;
		}
	}
	errx(2, "%s is not a command", argv[optind]);
}

void options_parse(int argc, char *argv[], struct options *out)
{
	struct lists lists = {.rates_count = 0};

	*out = (struct options){
		.clients = {.allocations = 1, .channels = 1, .window = 64, .renew_s = 240},
		.locals = {.addresses = 1, .ports = 1},
		.peers = {.addresses = 1, .ports = 1},
		.directions = {[DIRECTION_UP] = true},
		.size = 172,
		.duration_s = 10,
		.max_loss = 101,
		.progress_s = -1,
	};
	for (int c; (c = getopt_long(argc, argv, "o:", known, NULL)) != -1;) {
		if (c >= DIRECTION && c <= MAX_LOSS)
			read_relay(c, optarg, out, &lists);
		else if (c >= CLIENT_DEVICE && c <= EAL)
			read_dpdk(c, optarg, out);
		else if (c >= SERVER && c <= RENEW)
			read_clients(c, optarg, out);
		else
			read_option(c, optarg, out);
	}
	read_command(argc, argv, out);
	check(out, &lists);
}
