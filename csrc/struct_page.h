/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writing struct pages, whole or a tail's word alone: variant.h's other half.
 * It assumes of struct page the few members that probes read and write.
 */
#define PB_CAT_(a, b) a##b
#define PB_CAT(a, b)  PB_CAT_(a, b)
#define PB_STR_(a)    #a
#define PB_STR(a)     PB_STR_(a)

/* A file that states its encoding defines no set_compound_head() besides. */
#ifdef PB_ENCODING
static __always_inline void set_compound_head(struct page *tail,
					      const struct page *head,
					      unsigned int order)
{
	PB_CAT(PB_SET_, PB_ENCODING)(tail, head, order);
}
#define PB_WORDS	  PB_CAT(PB_WORDS_, PB_ENCODING)
#define PB_STORE(p, word) PB_STREAM(p, word)
#else
#define PB_WORDS	  ""
#define PB_STORE(p, word) (*(p) = (word))
#endif

/* A kernel tree's may take other arguments. */
#ifndef pb_set_compound_head
#define pb_set_compound_head(tail, head, order) \
	set_compound_head(tail, head, order)
#endif

#define PB_FIELD(at, type, member) \
	(*(volatile type *)((char *)(at) + offsetof(struct page, member)))

#define PB_SET(image, type, member, value)                              \
	do {                                                            \
		type field = (type)(value);                             \
                                                                        \
		__builtin_memcpy((char *)&(image) +                     \
					 offsetof(struct page, member), \
				 &field, sizeof(field));                \
	} while (0)

/*
 * Each word of a page once: an image of it is copied.  Ours go past the caches,
 * as nothing more is written to the page; a kernel tree's has to be made in
 * registers, lest the compiler protect a stack.
 */
struct pb_image {
	unsigned long word[sizeof(struct page) / sizeof(unsigned long)];
};

static __always_inline void pb_store_image(void *page, struct pb_image image)
{
	unsigned long *word = page;
	unsigned int i;

#pragma GCC unroll 16
	for (i = 0; i < sizeof(image) / sizeof(*word); i++)
		PB_STORE(&word[i], image.word[i]);
}

/* Every field that a probe reads or writes; the rest of the page is zero. */
static void pb_init_head(void *head, uint32_t order)
{
	struct pb_image image = { 0 };

	PB_SET(image, int, _mapcount, -1);
	PB_SET(image, int, _refcount, 1);
	PB_SET(image, unsigned long, flags, order ? 1UL << PG_head : 0);
	/* For prep, which the kernel tells the order. */
	PB_SET(image, unsigned long, private, order);
	/* An empty lru: what stands there in a head is even. */
	image.word[1] = (unsigned long)head + 8;
	pb_store_image(head, image);
}

static __always_inline struct pb_image pb_tail_image(void)
{
	struct pb_image image = { 0 };

	PB_SET(image, int, _mapcount, -1);
	return image;
}

static void pb_init_tails(void *tails, const void *head, uint32_t order,
			  size_t n)
{
#ifdef PB_ENCODING
	/* Ours write the same word wherever the tail stands. */
	struct pb_image image = pb_tail_image();

	pb_set_compound_head((struct page *)&image, (struct page *)head, order);
	for (struct page *page = tails; n--; page++)
		pb_store_image(page, image);
#else
	for (struct page *page = tails; n--; page++) {
		pb_store_image(page, pb_tail_image());
		pb_set_compound_head(page, (struct page *)head, order);
	}
#endif
}

static void pb_encode_tails(void *tails, const void *head, uint32_t order,
			    size_t n)
{
	for (struct page *page = tails; n--; page++)
		pb_set_compound_head(page, (struct page *)head, order);
}
