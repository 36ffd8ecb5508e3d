/* policy/: threats P01-P14, P24 as rows; tests/unit/policy_pairs compares the match with Python's.
 */
#include "controlplane/policy/policy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static struct tp_addr address(const char *text)
{
	struct tp_addr a;

	if (tp_addr_parse_ip(text, &a) < 0)
		fail_msg("%s is no address", text);
	return a;
}

static void expect(const struct policy *policy, const char *peer, enum policy_verdict want)
{
	struct tp_addr a = address(peer);
	char rule[POLICY_RULE_SIZE];

	if (policy_check(policy, &a, rule) != want)
		fail_msg("%s: %s", peer, rule);
	assert_int_equal(policy_check(policy, &a, NULL), want);
}

static void add(struct policy *policy, bool allow, const char *prefix)
{
	char error[128] = "";

	if (policy_add_rule(policy, allow, prefix, error) < 0)
		fail_msg("%s", error);
}

static struct policy *make(void)
{
	struct policy *policy;

	assert_int_equal(policy_new(&policy), 0);
	return policy;
}

/* Denied out of the box; `always`: not even an operator's /32 or /128 opens it. */
static const struct {
	const char *peer;
	bool always;
} denied[] = {
	/* P01, P02 */
	{"127.0.0.1", true},
	{"127.255.255.254", true},
	{"::1", true},
	{"0.0.0.0", true},
	{"0.1.2.3", true},
	{"::", true},
	/* P03, P04, P05 */
	{"::ffff:10.0.0.1", true},
	{"::ffff:127.0.0.1", true},
	{"::ffff:8.8.8.8", true},
	{"::10.0.0.1", true},
	{"::8.8.8.8", true},
	{"64:ff9b::a9fe:a9fe", true},
	{"64:ff9b::808:808", true},
	{"2002:a9fe:a9fe::1", true},
	{"2002:808:808::1", true},
	/* P06, P07 */
	{"2001::1", true},
	{"2001:0:1::1", true},
	{"64:ff9b:1::a00:1", true},
	{"64:ff9b:1:ffff::1", true},
	{"::ffff:0:10.0.0.1", true},
	{"::ffff:0:8.8.8.8", true},
	{"5f00::1", false},
	{"2a00:1450::5efe:10.0.0.1", false},
	{"2a00:1450::200:5efe:10.0.0.1", false},
	{"2a00:1450::5efe:127.0.0.1", true},
	{"2a00:1450:0:0:200:5efe:169.254.169.254", true},
	/* P10 */
	{"169.254.169.254", true},
	{"169.254.170.2", true},
	{"fe80::a9fe:a9fe", true},
	{"febf::1", true},
	{"fd00:ec2::254", false},
	{"fd20:ce::254", false},
	{"fc00::1", false},
	{"fec0::1", false},
	{"10.0.0.0", false},
	{"10.255.255.255", false},
	{"172.16.0.1", false},
	{"172.31.255.255", false},
	{"192.168.0.1", false},
	{"100.64.0.1", false},
	{"100.127.255.255", false},
	/* P11 */
	{"168.63.129.16", false},
	{"100.100.100.200", false},
	{"192.0.0.192", false},
	/* P12 */
	{"224.0.0.1", true},
	{"239.255.255.255", true},
	{"240.0.0.1", true},
	{"255.255.255.255", true},
	{"ff02::1", true},
	{"ff0e::1", true},
	/* documentation, benchmarking, registries */
	{"192.0.2.1", false},
	{"198.51.100.1", false},
	{"203.0.113.1", false},
	{"198.18.0.1", false},
	{"198.19.255.255", false},
	{"192.31.196.1", false},
	{"192.175.48.1", false},
	{"192.52.193.1", false},
	{"192.88.99.1", false},
	{"2001:db8::1", false},
	{"3fff:fff::1", false},
	{"2001:2::1", false},
	{"2001:20::1", false},
	{"2001:1ff::1", false},
	{"2620:4f:8000::1", false},
	{"100::1", false},
	{"100:0:0:1::1", false},
	/* outside 2000::/3 */
	{"1fff::1", false},
	{"4000::1", false},
	{"8000::1", false},
	{"::1:0:0:1", false},
	{"64:ff9a::1", false},
};

static const char *const allowed[] = {"8.8.8.8", "1.0.0.1", "9.255.255.255", "11.0.0.0",
	"100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1", "168.63.129.15",
	"168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
	"192.0.1.1", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
	"203.0.112.255", "203.0.114.0", "223.255.255.255", "2000::1", "2001:200::1",
	"2001:db7:ffff::1", "2001:db9::1", "2003::1", "2a00:1450:4001::1", "3ffe::1",
	"3fff:1000::1", "2a00:1450::5efe:8.8.8.8", "2a00:1450::100:5efe:10.0.0.1"};

static void test_defaults(void **state)
{
	struct policy *policy = make();

	for (size_t i = 0; i < COUNT(denied); i++)
		expect(policy, denied[i].peer, POLICY_DENY);
	for (size_t i = 0; i < COUNT(allowed); i++)
		expect(policy, allowed[i], POLICY_ALLOW);
	policy_free(policy);
}

/* Each alone, so that no rule opens the address of another row. */
static void test_what_an_operator_can_open(void **state)
{
	char error[128];

	for (size_t i = 0; i < COUNT(denied); i++) {
		struct policy *policy = make();
		struct tp_addr a = address(denied[i].peer);

		/* The mapped ones cannot even be written. */
		if (policy_add_rule(policy, true, denied[i].peer, error) < 0)
			assert_memory_equal(denied[i].peer, "::ffff:", 7);
		if (strstr(denied[i].peer, "5efe:10."))
			add(policy, true, "10.0.0.0/8");
		if (policy_check(policy, &a, NULL) !=
			(denied[i].always ? POLICY_DENY : POLICY_ALLOW))
			fail_msg("%s", denied[i].peer);
		policy_free(policy);
	}
}

static void test_widest_allow(void **state)
{
	struct policy *policy = make();

	add(policy, true, "0.0.0.0/0");
	add(policy, true, "::/0");
	expect(policy, "10.0.0.1", POLICY_DENY);
	expect(policy, "127.0.0.1", POLICY_DENY);
	expect(policy, "fd00::1", POLICY_DENY);
	expect(policy, "2001:db8::1", POLICY_DENY);
	expect(policy, "::1", POLICY_DENY);
	expect(policy, "8.8.8.8", POLICY_ALLOW);
	expect(policy, "4000::1", POLICY_ALLOW);
	policy_free(policy);
}

/* P24: the longest wins, deny wins ties; the order in which they are written does not matter. */
static void test_overlapping_rules(void **state)
{
	static const struct {
		bool allow;
		const char *prefix;
	} rules[] = {
		{true, "10.0.0.0/8"},
		{false, "10.1.0.0/16"},
		{true, "10.1.2.0/24"},
		{false, "10.1.2.128/25"},
		{true, "10.1.2.192/26"},
		{false, "10.1.2.200/32"},
		{true, "10.1.2.201"},
		{true, "172.16.0.0/12"},
		{false, "172.16.0.0/12"},
		{false, "172.20.0.0/14"},
		{true, "172.20.0.0/14"},
		{true, "172.20.1.1/32"},
		{false, "8.0.0.0/8"},
		{true, "8.8.8.0/24"},
		{true, "fd00::/8"},
		{false, "fd00:ec2::/32"},
		{true, "fd00:ec2:1::/48"},
		{false, "2a00::/12"},
		{true, "2a00:1450::/32"},
		{false, "2a00:1450:4001:812::200e/128"},
	};
	static const struct {
		const char *peer;
		enum policy_verdict want;
	} peers[] = {
		{"10.0.0.1", POLICY_ALLOW},
		{"10.255.0.1", POLICY_ALLOW},
		{"10.1.0.1", POLICY_DENY},
		{"10.1.3.0", POLICY_DENY},
		{"10.1.2.1", POLICY_ALLOW},
		{"10.1.2.127", POLICY_ALLOW},
		{"10.1.2.128", POLICY_DENY},
		{"10.1.2.191", POLICY_DENY},
		{"10.1.2.192", POLICY_ALLOW},
		{"10.1.2.200", POLICY_DENY},
		{"10.1.2.201", POLICY_ALLOW},
		{"172.16.0.1", POLICY_DENY},
		{"172.20.0.1", POLICY_DENY},
		{"172.20.1.1", POLICY_ALLOW},
		{"8.1.1.1", POLICY_DENY},
		{"8.8.8.8", POLICY_ALLOW},
		{"8.8.9.8", POLICY_DENY},
		{"fd00::1", POLICY_ALLOW},
		{"fc00::1", POLICY_DENY},
		{"fd00:ec2::254", POLICY_DENY},
		{"fd00:ec2:1::1", POLICY_ALLOW},
		{"2a00::1", POLICY_DENY},
		{"2a00:1450::1", POLICY_ALLOW},
		{"2a00:1450:4001:812::200e", POLICY_DENY},
		{"2a10::1", POLICY_ALLOW},
	};

	for (int backwards = 0; backwards < 2; backwards++) {
		struct policy *policy = make();

		for (size_t i = 0; i < COUNT(rules); i++) {
			size_t k = backwards ? COUNT(rules) - 1 - i : i;

			add(policy, rules[k].allow, rules[k].prefix);
		}
		for (size_t i = 0; i < COUNT(peers); i++)
			expect(policy, peers[i].peer, peers[i].want);
		policy_free(policy);
	}
}

/* P09: a rule that is not understood is refused, and leaves nothing behind. */
static void test_malformed_rules(void **state)
{
	static const char *const rules[] = {"10.0.0.0/33", "10.0.0.0-9.0.0.0", "10.0.0", "::1/129",
		"", "/", "/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/ 8",
		"10.0.0.0/8 ", " 10.0.0.0/8", "10.0.0.0/8/8", "10.0.0.0/0x8", "10.0.0.0/1e0",
		"10.0.0.0/0008", "10.0.0.0/255.0.0.0", "10.0.0.1/8", "0.0.0.1/0", "2001:db8::1/32",
		"256.0.0.0/8", "010.0.0.0/8", "example.org", "10.0.0.0/4294967304", "fe80::1%eth0",
		"::ffff:10.0.0.0/104", "::ffff:8.8.8.8", "[::1]", "*", "10.0.0.0/8,11.0.0.0/8",
		("1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff:1111"
		 ":2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff:1/8")};
	struct policy *policy = make();

	add(policy, true, "10.0.0.0/8");
	for (size_t i = 0; i < COUNT(rules); i++) {
		char error[128] = "";

		if (policy_add_rule(policy, false, rules[i], error) != -EINVAL)
			fail_msg("%s was taken", rules[i]);
		assert_true(strlen(error) > 10);
	}
	expect(policy, "10.0.0.1", POLICY_ALLOW);
	expect(policy, "8.8.8.8", POLICY_ALLOW);
	policy_free(policy);
}

static void test_error_text(void **state)
{
	static const struct {
		const char *rule, *error;
	} rows[] = {
		{"10.1.2.3/16", "10.1.2.3/16: bits set behind the prefix; try 10.1.0.0/16"},
		{"10.0.0.0/33", "10.0.0.0/33: prefix length is over 32"},
		{"::/129", "::/129: prefix length is over 128"},
		{"10.0.0", "10.0.0: no IP address; expected one like 10.1.0.0/16"},
		{"10.0.0.0/x", "10.0.0.0/x: no prefix length behind the slash"},
	};
	struct policy *policy = make();
	char error[128];

	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(policy_add_rule(policy, true, rows[i].rule, error), -EINVAL);
		assert_string_equal(error, rows[i].error);
	}
	policy_free(policy);
}

static void set_locals(
	struct policy *policy, const char *own, const char *connected, uint8_t connected_length)
{
	struct policy_prefix never = {address(own), address(own).family == TP_IPV4 ? 32 : 128};
	struct policy_prefix subnet = {address(connected), connected_length};
	struct policy_locals locals = {&never, 1, &subnet, 1};

	assert_int_equal(policy_set_locals(policy, &locals), 0);
}

/* P12, P13: the machine itself, as it is now. */
static void test_locals(void **state)
{
	struct policy *policy = make();
	struct policy_locals wrong = {
		.never = &(struct policy_prefix){address("9.9.9.9"), 33}, .never_count = 1};

	set_locals(policy, "8.1.1.1", "8.1.1.77", 24);
	expect(policy, "8.1.1.1", POLICY_DENY);
	expect(policy, "8.1.1.2", POLICY_DENY);
	expect(policy, "8.1.2.1", POLICY_ALLOW);
	assert_int_equal(policy_set_locals(policy, &wrong), -EINVAL);
	expect(policy, "8.1.1.1", POLICY_DENY); /* still the old ones */
	/* A shorter rule of the operator opens the neighbours, none opens the machine. */
	add(policy, true, "8.0.0.0/8");
	add(policy, true, "8.1.1.1");
	expect(policy, "8.1.1.1", POLICY_DENY);
	expect(policy, "8.1.1.2", POLICY_ALLOW);
	set_locals(policy, "2a00:1450::1", "2a00:1450::", 64);
	expect(policy, "8.1.1.1", POLICY_ALLOW);
	expect(policy, "2a00:1450::1", POLICY_DENY);
	expect(policy, "2a00:1450::2", POLICY_DENY);
	expect(policy, "2a00:1450:0:1::1", POLICY_ALLOW);
	add(policy, true, "2a00:1450::/64");
	expect(policy, "2a00:1450::1", POLICY_DENY);
	expect(policy, "2a00:1450::2", POLICY_ALLOW);
	policy_free(policy);
}

/* A lab: everything is private and connected. */
static void test_connected_private_subnet(void **state)
{
	struct policy *policy = make();

	set_locals(policy, "10.1.2.1", "10.1.2.0", 24);
	expect(policy, "10.1.2.2", POLICY_DENY);
	add(policy, true, "10.0.0.0/8");
	expect(policy, "10.1.2.2", POLICY_ALLOW);
	expect(policy, "10.1.2.1", POLICY_DENY);
	policy_free(policy);
}

static void test_relay_addresses(void **state)
{
	static const char *const relays[] = {"8.1.1.1", "10.0.0.5", "2a00:1450::1", "127.0.0.1"};
	struct policy *policy = make();

	for (size_t i = 0; i < 2 * COUNT(relays); i++) {
		struct tp_addr a = address(relays[i / 2]);

		a.port = 3478;
		assert_int_equal(policy_add_relay_address(policy, &a), 0);
	}
	set_locals(policy, "8.1.1.1", "8.1.1.0", 24);
	expect(policy, "8.1.1.1", POLICY_RELAYS_ONLY);
	expect(policy, "10.0.0.5", POLICY_RELAYS_ONLY);
	expect(policy, "2a00:1450::1", POLICY_RELAYS_ONLY);
	expect(policy, "8.1.1.2", POLICY_DENY);
	expect(policy, "127.0.0.1", POLICY_DENY);
	expect(policy, "2a00:1450::200:5efe:8.1.1.1", POLICY_DENY);
	add(policy, true, "10.0.0.0/8");
	expect(policy, "10.0.0.5", POLICY_RELAYS_ONLY);
	add(policy, false, "8.1.0.0/16");
	expect(policy, "8.1.1.1", POLICY_DENY);
	policy_free(policy);
}

static void test_rule_text(void **state)
{
	static const struct {
		const char *peer, *rule;
	} rows[] = {
		{"10.0.0.1", "deny 10.0.0.0/8 (built in: RFC 1918)"},
		{"10.1.2.3", "allow 10.1.0.0/16 (configured)"},
		{"8.1.1.1", "deny 8.1.1.1/32 (own address, broadcast or gateway)"},
		{"8.1.1.2", "deny 8.1.1.0/24 (connected subnet)"},
		{"8.2.0.1", "allow 8.2.0.1/32 (own relay address, live relays only)"},
		{"8.8.8.8", "allow 0.0.0.0/0 (built in: public IPv4)"},
		{"2a00::1", "allow 2000::/3 (built in: global unicast)"},
		{"2a00::5efe:10.0.0.1", "deny 10.0.0.0/8 (built in: RFC 1918)"},
		{"::ffff:8.8.8.8", "deny ::ffff:0.0.0.0/96 (built in: IPv4-mapped)"},
		{"2a01:1111:2222:3333:4444:5555:6666:7777",
			"deny 2a01:1111:2222:3333:4444:5555:6666:7777/128 (configured)"},
	};
	struct policy *policy = make();
	struct tp_addr relay = address("8.2.0.1"), none = {0};
	char rule[POLICY_RULE_SIZE];

	add(policy, true, "10.1.0.0/16");
	add(policy, false, "2a01:1111:2222:3333:4444:5555:6666:7777");
	assert_int_equal(policy_add_relay_address(policy, &relay), 0);
	set_locals(policy, "8.1.1.1", "8.1.1.0", 24);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct tp_addr a = address(rows[i].peer);

		policy_check(policy, &a, rule);
		assert_string_equal(rule, rows[i].rule);
	}
	assert_int_equal(policy_check(policy, &none, rule), POLICY_DENY);
	assert_string_equal(rule, "deny (not an address)");
	policy_free(policy);
}

/* P06, L07. Private, loopback and link-local clients are what labs and LANs have. */
static void test_clients(void **state)
{
	static const struct {
		const char *client;
		bool allowed;
	} rows[] = {
		{"8.8.8.8", true},
		{"10.0.0.1", true},
		{"127.0.0.1", true},
		{"192.0.2.1", true},
		{"::1", true},
		{"fe80::1", true},
		{"fd00::1", true},
		{"2001:db8::1", true},
		{"2a00::1", true},
		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"224.0.0.1", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"::", false},
		{"::8.8.8.8", false},
		{"::ffff:8.8.8.8", false},
		{"::ffff:0:8.8.8.8", false},
		{"2001:0:1::1", false},
		{"2002:808:808::1", false},
		{"ff02::1", false},
	};
	struct policy *policy = make();
	struct tp_addr none = {0};

	add(policy, false, "8.0.0.0/8"); /* rules are about peers */
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct tp_addr a = address(rows[i].client);

		if (policy_client_allowed(policy, &a) != rows[i].allowed)
			fail_msg("%s", rows[i].client);
	}
	assert_false(policy_client_allowed(policy, &none));
	policy_free(policy);
}

/* What was asked before a change is asked anew after it: data paths pass no rule. */
static void test_changes_are_seen_at_once(void **state)
{
	struct tp_addr peer, own;
	struct policy_prefix never = {0};
	struct policy_locals locals = {.never = &never, .never_count = 1};
	struct policy *policy;
	char error[128];

	assert_int_equal(policy_new(&policy), 0);
	assert_int_equal(tp_addr_parse_ip("9.9.9.9", &peer), 0);
	assert_int_equal(tp_addr_parse_ip("9.9.9.10", &own), 0);
	assert_int_equal(policy_check(policy, &peer, NULL), POLICY_ALLOW);
	assert_int_equal(policy_add_rule(policy, false, "9.9.9.9", error), 0);
	assert_int_equal(policy_check(policy, &peer, NULL), POLICY_DENY);

	assert_int_equal(policy_check(policy, &own, NULL), POLICY_ALLOW);
	never = (struct policy_prefix){own, 32};
	assert_int_equal(policy_set_locals(policy, &locals), 0);
	assert_int_equal(policy_check(policy, &own, NULL), POLICY_DENY);
	assert_int_equal(policy_add_relay_address(policy, &own), 0);
	assert_int_equal(policy_check(policy, &own, NULL), POLICY_RELAYS_ONLY);
	policy_free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_are_seen_at_once),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_what_an_operator_can_open),
		cmocka_unit_test(test_widest_allow),
		cmocka_unit_test(test_overlapping_rules),
		cmocka_unit_test(test_malformed_rules),
		cmocka_unit_test(test_error_text),
		cmocka_unit_test(test_locals),
		cmocka_unit_test(test_connected_private_subnet),
		cmocka_unit_test(test_relay_addresses),
		cmocka_unit_test(test_rule_text),
		cmocka_unit_test(test_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
