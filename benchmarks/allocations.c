/* Counts the allocations of a Python, in a file of eight bytes that any process may read. See counted.py. */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* As <Python.h> has it (PyMemAllocatorEx), which need not be installed. */
typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *block, size_t size);
    void (*free)(void *ctx, void *block);
} Allocator;

extern void PyMem_GetAllocator(int domain, Allocator *allocator);
extern void PyMem_SetAllocator(int domain, Allocator *allocator);

enum { DOMAINS = 3 }; /* raw, mem, object */

static Allocator original[DOMAINS];
static uint64_t *counted;

static Allocator *count(void *ctx)
{
    __atomic_fetch_add(counted, 1, __ATOMIC_RELAXED);
    return ctx;
}

static void *counted_malloc(void *ctx, size_t size)
{
    Allocator *to = count(ctx);
    return to->malloc(to->ctx, size);
}

static void *counted_calloc(void *ctx, size_t many, size_t size)
{
    Allocator *to = count(ctx);
    return to->calloc(to->ctx, many, size);
}

static void *counted_realloc(void *ctx, void *block, size_t size)
{
    Allocator *to = count(ctx);
    return to->realloc(to->ctx, block, size);
}

static void uncounted_free(void *ctx, void *block)
{
    Allocator *to = ctx;
    to->free(to->ctx, block);
}

int count_into(const char *path)
{
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *counted) < 0)
        return -1;
    counted = mmap(NULL, sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (counted == MAP_FAILED)
        return -1;
    for (int domain = 0; domain < DOMAINS; domain++) {
        PyMem_GetAllocator(domain, &original[domain]);
        Allocator counting = {&original[domain], counted_malloc, counted_calloc, counted_realloc, uncounted_free};
        PyMem_SetAllocator(domain, &counting);
    }
    return 0;
}
