#include "options.h"

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

/* A permission lasts 5 minutes (RFC 8656, 9) and is not refreshed. */
#define DURATION_MAX_S 240
/* A client is a port of one address. */
#define ALLOCATIONS_MAX 50000
#define PASSWORD_ENV    "TURNPIKE_PASSWORD"

static const char usage[] =
	"usage: turnpike-bench relay    --server A:P --user U --password W --peer A[:P] [OPTION...]\n"
	"       turnpike-bench allocate --server A:P --user U --password W --peer A[:P] [OPTION...]\n"
	"\n"
	"A TURN client that makes allocations, each with a channel. `relay` then sends numbered,\n"
	"time-stamped packets through them, plays the peer itself, and reports what was lost and how\n"
	"long the others took. `allocate` reports what making them took. They are deleted at the end.\n"
	"\n"
	"  --server A:P       the TURN server, UDP\n"
	"  --user U           long-term credentials\n"
	"  --password W       likewise; better in the environment, as " PASSWORD_ENV "\n"
	"  --peer A[:P]       an address of this machine (or of --peer-netns) to be the peer\n"
	"  --local A          the clients' address; default: as the machine's routes say\n"
	"  --allocations N    default 1, up to 50000\n"
	"  --window N         that many being made at a time; default 64\n"
	"  --client-netns N   the clients are in this network namespace\n"
	"  --peer-netns N     the peer is in this one\n"
	"  --pid PID          also report what this process costs\n"
	"  --json             one JSON document instead of text\n"
	"relay:\n"
	"  --direction D      up (client to peer), down or both; default up\n"
	"  --rate PPS|max     packets a second in each direction; default 1000\n"
	"  --size BYTES       application data of a packet, 32 to 1400; default 172\n"
	"  --duration S       up to 240; default 10\n"
	"  --max-loss PCT     more lost than that, in percent: exit code 1\n"
	"\n"
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 done, 1 failed or more lost than --max-loss, 2 wrong usage.\n";

enum {
	SERVER = 256,
	USER,
	PASSWORD,
	PEER,
	LOCAL,
	ALLOCATIONS,
	WINDOW,
	CLIENT_NETNS,
	PEER_NETNS,
	PID,
	JSON,
	DIRECTION,
	RATE,
	SIZE,
	DURATION,
	MAX_LOSS,
	HELP,
	VERSION
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

static double percentage(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 0 && value <= 100))
		errx(2, "--max-loss: %s is not a percentage", text);
	return value;
}

static void read_direction(const char *text, struct options *o)
{
	bool both = strcmp(text, "both") == 0;

	o->directions[DIRECTION_UP] = both || strcmp(text, "up") == 0;
	o->directions[DIRECTION_DOWN] = both || strcmp(text, "down") == 0;
	if (!o->directions[DIRECTION_UP] && !o->directions[DIRECTION_DOWN])
		errx(2, "--direction: %s is none of up, down, both", text);
}

static void read_addresses(int option, const char *text, struct options *o)
{
	struct clients_settings *c = &o->clients;

	if (option == SERVER && (tp_addr_parse(text, &c->server) < 0 || c->server.port == 0))
		errx(2, "--server: %s is not ADDRESS:PORT", text);
	if (option == PEER && tp_addr_parse(text, &c->peer) < 0 &&
		tp_addr_parse_ip(text, &c->peer) < 0)
		errx(2, "--peer: %s is not ADDRESS or ADDRESS:PORT", text);
	if (option == LOCAL && tp_addr_parse_ip(text, &c->local) < 0)
		errx(2, "--local: %s is not an address", text);
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

static void read_option(int option, char *text, struct options *o)
{
	switch (option) {
	case SERVER:
	case PEER:
	case LOCAL:
		read_addresses(option, text, o);
		break;
	case USER:
		o->clients.user = text;
		break;
	case PASSWORD:
		o->clients.password = take_password(text);
		break;
	case ALLOCATIONS:
		o->clients.allocations = (unsigned)number("allocations", text, 1, ALLOCATIONS_MAX);
		break;
	case WINDOW:
		o->clients.window = (unsigned)number("window", text, 1, ALLOCATIONS_MAX);
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
	case DIRECTION:
		read_direction(text, o);
		break;
	case RATE:
		o->rate = strcmp(text, "max") == 0 ? 0 : number("rate", text, 1, 1000000000);
		break;
	case SIZE:
		o->size = number("size", text, PACKET_SIZE_MIN, PACKET_SIZE_MAX);
		break;
	case DURATION:
		o->duration_s = (unsigned)number("duration", text, 1, DURATION_MAX_S);
		break;
	case MAX_LOSS:
		o->max_loss = percentage(text);
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

static void check(struct options *o)
{
	struct clients_settings *c = &o->clients;

	if (!c->password)
		c->password = getenv(PASSWORD_ENV);
	if (!c->server.family || !c->peer.family || !c->user || !c->password)
		errx(2, "--server, --user, --password and --peer are needed");
	if (c->peer.family != c->server.family)
		errx(2, "--peer: must be of the server's family, as the relayed addresses are");
	if (!c->local.family)
		c->local =
			tp_addr_make((enum tp_family)c->server.family, (const uint8_t[16]){0}, 0);
	if (c->local.family != c->server.family)
		errx(2, "--local: must be of the server's family");
}

void options_parse(int argc, char *argv[], struct options *out)
{
	static const struct option options[] = {{"server", 1, 0, SERVER}, {"user", 1, 0, USER},
		{"password", 1, 0, PASSWORD}, {"peer", 1, 0, PEER}, {"local", 1, 0, LOCAL},
		{"allocations", 1, 0, ALLOCATIONS}, {"window", 1, 0, WINDOW},
		{"client-netns", 1, 0, CLIENT_NETNS}, {"peer-netns", 1, 0, PEER_NETNS},
		{"pid", 1, 0, PID}, {"json", 0, 0, JSON}, {"direction", 1, 0, DIRECTION},
		{"rate", 1, 0, RATE}, {"size", 1, 0, SIZE}, {"duration", 1, 0, DURATION},
		{"max-loss", 1, 0, MAX_LOSS}, {"help", 0, 0, HELP}, {"version", 0, 0, VERSION},
		{0}};

	*out = (struct options){
		.clients = {.allocations = 1, .channels = 1, .window = 64, .lifetime_s = 600},
		.directions = {[DIRECTION_UP] = true},
		.rate = 1000,
		.size = 172,
		.duration_s = 10,
		.max_loss = 101,
	};
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
		read_option(c, optarg, out);
	if (optind != argc - 1)
		errx(2, "one command is needed: relay or allocate");
	if (strcmp(argv[optind], "relay") == 0)
		out->command = BENCH_RELAY;
	else if (strcmp(argv[optind], "allocate") == 0)
		out->command = BENCH_ALLOCATE;
	else
		errx(2, "%s is not a command", argv[optind]);
	check(out);
}
