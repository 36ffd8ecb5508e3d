/* route/: what links say about the way out, from messages as the kernel writes them. */
#include "controlplane/route/links.h"

#include <linux/if_ether.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define ETH      3
#define VLAN     7
#define OTHER    9
#define UP       (IFF_UP | IFF_RUNNING)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct described {
	int ifindex;
	unsigned flags;
	uint32_t mtu;
	uint32_t parent; /* 0: no IFLA_LINK */
	const char *kind;
	uint16_t vlan, protocol;
	bool foreign; /* the parent is in another namespace */
	bool deleted;
	uint8_t last_of_mac;
	uint8_t mac_len;
};

static void put_link_info(struct nlmsghdr *message, const struct described *d)
{
	struct nlattr *info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	struct nlattr *data;

	mnl_attr_put_strz(message, IFLA_INFO_KIND, d->kind);
	data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u16(message, IFLA_VLAN_ID, d->vlan);
	mnl_attr_put_u16(message, IFLA_VLAN_PROTOCOL, htobe16(d->protocol));
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, info);
}

static bool tell(struct links *links, const struct described *d)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[512];
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	uint8_t mac[8] = {2, 0, 0, 0, 0, d->last_of_mac};
	struct ifinfomsg *info;

	message->nlmsg_type = d->deleted ? RTM_DELLINK : RTM_NEWLINK;
	info = mnl_nlmsg_put_extra_header(message, sizeof(*info));
	info->ifi_index = d->ifindex;
	info->ifi_flags = d->flags;
	mnl_attr_put_u32(message, IFLA_MTU, d->mtu);
	mnl_attr_put(message, IFLA_ADDRESS, d->mac_len ? d->mac_len : 6, mac);
	if (d->parent)
		mnl_attr_put_u32(message, IFLA_LINK, d->parent);
	if (d->foreign)
		mnl_attr_put_u32(message, IFLA_LINK_NETNSID, 1);
	if (d->kind)
		put_link_info(message, d);
	return links_update(links, message);
}

static void test_exits(void **state)
{
	static const struct {
		const char *name;
		struct described eth, upper;
		bool found, up;
		uint16_t vlan;
		uint32_t mtu;
	} rows[] = {
		{"a VLAN above the engine's interface", {ETH, UP, 1500},
			{VLAN, UP, 1496, ETH, "vlan", 100, ETH_P_8021Q}, true, true, 100, 1496},
		{"its parent is down", {ETH, IFF_UP, 1500},
			{VLAN, UP, 1496, ETH, "vlan", 100, ETH_P_8021Q}, true, false, 100, 1496},
		{"it is down itself", {ETH, UP, 1500},
			{VLAN, IFF_UP, 1496, ETH, "vlan", 100, ETH_P_8021Q}, true, false, 100,
			1496},
		{"a service VLAN has another TPID", {ETH, UP, 1500},
			{VLAN, UP, 1496, ETH, "vlan", 100, ETH_P_8021AD}},
		{"above somebody else's interface", {ETH, UP, 1500},
			{VLAN, UP, 1496, OTHER, "vlan", 100, ETH_P_8021Q}},
		{"the parent's number belongs to another namespace", {ETH, UP, 1500},
			{VLAN, UP, 1496, ETH, "vlan", 100, ETH_P_8021Q, .foreign = true}},
		{"a macvlan is no VLAN", {ETH, UP, 1500},
			{VLAN, UP, 1496, ETH, "macvlan", 100, ETH_P_8021Q}},
		{"no MAC address of Ethernet's size", {ETH, UP, 1500},
			{VLAN, UP, 1496, ETH, "vlan", 100, ETH_P_8021Q, .mac_len = 8}, true, false,
			100, 1496},
	};
	const uint32_t interfaces[] = {77, ETH};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct links links;
		struct links_exit by;

		print_message("    %s\n", rows[i].name);
		assert_int_equal(links_init(&links, interfaces, COUNT(interfaces)), 0);
		assert_true(tell(&links, &rows[i].eth));
		assert_true(tell(&links, &rows[i].upper));
		assert_true(links_find_exit(&links, ETH, &by));
		assert_int_equal(by.interface, 1);
		assert_int_equal(by.vlan, 0);

		assert_int_equal(links_find_exit(&links, VLAN, &by), rows[i].found);
		if (rows[i].found) {
			assert_int_equal(by.ifindex, ETH);
			assert_int_equal(by.interface, 1);
			assert_int_equal(by.vlan, rows[i].vlan);
			assert_int_equal(by.mtu, rows[i].mtu);
			assert_int_equal(by.up, rows[i].up);
		}
		links_clear(&links);
	}
}

static void test_changes(void **state)
{
	static const struct {
		struct described says;
		bool news;
	} rows[] = {
		{{ETH, UP, 1500}, true},
		{{ETH, UP, 1500}, false},
		{{ETH, UP | IFF_PROMISC, 1500}, false},
		{{ETH, IFF_UP, 1500}, true},
		{{ETH, IFF_UP, 1400}, true},
		{{ETH, IFF_UP, 1400, .last_of_mac = 9}, true},
		{{ETH, .deleted = true}, true},
		{{ETH, .deleted = true}, false},
	};
	const uint32_t interface = ETH;
	struct links links;
	struct links_exit by;

	assert_int_equal(links_init(&links, &interface, 1), 0);
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_int_equal(tell(&links, &rows[i].says), rows[i].news);
	assert_false(links_find_exit(&links, ETH, &by));
	links_clear(&links);
}

/* What a full dump does not name is gone. */
static void test_dump(void **state)
{
	const struct described eth = {ETH, UP, 1500}, other = {OTHER, UP, 1500};
	const uint32_t interfaces[] = {ETH, OTHER};
	struct links links;
	struct links_exit by;

	assert_int_equal(links_init(&links, interfaces, COUNT(interfaces)), 0);
	tell(&links, &eth);
	tell(&links, &other);
	links_expect_all(&links);
	tell(&links, &other);
	links_drop_unseen(&links);
	assert_false(links_find_exit(&links, ETH, &by));
	assert_true(links_find_exit(&links, OTHER, &by));
	links_clear(&links);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exits),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_dump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
