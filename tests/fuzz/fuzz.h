/*
 * What the fuzz targets share: values taken off the input one after another, and laws that end the
 * program when they are broken. One thread, one input at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(law)                                                                                  \
	do {                                                                                       \
		if (!(law)) {                                                                      \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #law);          \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* libFuzzer calls it; `data` is a heap block of exactly that size. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of the input. Behind its end everything is 0. */
struct feed {
	const uint8_t *bytes;
	size_t len;
};

static inline uint8_t feed_u8(struct feed *feed)
{
	if (feed->len == 0)
		return 0;
	feed->len--;
	return *feed->bytes++;
}

static inline uint16_t feed_u16(struct feed *feed)
{
	uint16_t high = feed_u8(feed);

	return (uint16_t)(high << 8 | feed_u8(feed));
}

static inline uint32_t feed_u32(struct feed *feed)
{
	uint32_t high = feed_u16(feed);

	return high << 16 | feed_u16(feed);
}

/* Up to `len` bytes, which stay the input's. */
static inline struct feed feed_take(struct feed *feed, size_t len)
{
	struct feed out = {feed->bytes, len < feed->len ? len : feed->len};

	feed->bytes += out.len;
	feed->len -= out.len;
	return out;
}

/* The bytes before the next `separator`, which is dropped; all when there is none. */
static inline struct feed feed_until(struct feed *feed, uint8_t separator)
{
	const uint8_t *end = feed->len ? memchr(feed->bytes, separator, feed->len) : NULL;
	struct feed out = feed_take(feed, end ? (size_t)(end - feed->bytes) : feed->len);

	feed_take(feed, end ? 1 : 0);
	return out;
}

/* Reads every byte, for ASan to see. */
static inline void fuzz_touch(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	unsigned sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	__asm__ volatile("" : : "r"(sum));
}
