/* The stock belongs to its thread, and would be shared after a fork(): nobody here forks. */
#include "random.h"

#include <string.h>
#include <sys/random.h>

/* As much as getrandom() gives without being interrupted. */
enum { STOCK = 256 };

struct stock {
	unsigned char bytes[STOCK];
	size_t left;
};

bool tp_random(void *out, size_t len)
{
	static __thread struct stock stock;

	if (len > TP_RANDOM_MAX)
		return false;
	if (len > stock.left) {
		if (getrandom(stock.bytes, STOCK, 0) != STOCK)
			return false;
		stock.left = STOCK;
	}
	stock.left -= len;
	memcpy(out, stock.bytes + stock.left, len);
	explicit_bzero(stock.bytes + stock.left, len);
	return true;
}
