/* The network of rnatracker/model/network.py as fused CPU kernels: codes in, pooled states out, forward and backward.
 *
 * Plain C (GNU dialect: gcc or clang), no headers of PyTorch. Compiled by build.py, called by binding.py through the
 * three functions at the end of the file: rnatracker_workspace, rnatracker_forward, rnatracker_backward. Each kernel
 * names the PyTorch operations that it replaces: those are its specification, and tests/test_kernels_*.py holds the
 * whole to them.
 *
 * Ideas:
 * - Work is cut into groups of a few sequences. One thread takes a group through all layers, so that what a layer
 *   writes is still in the cache when the next one reads it, and a step needs one parallel region, not ten.
 * - Rows are packed: a sequence has as many rows as it has steps. Padding behind a masked sequence does not exist
 *   here; zeros in front of an unmasked one are skipped by the convolutions, whose outputs there are known to be zero.
 * - Channels and units are padded with zeros to a multiple of LANES, so that no loop has a tail.
 * - All memory comes from one workspace that the caller lends and reuses: a fresh one costs page faults every step.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

/* ---- Vectors: as wide as the CPU that this is compiled for. The sums of a tile, TILE_ROWS rows of three vectors or
 * TALL_ROWS rows of two, stay in its registers, of which there are 16 or 32. */

#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 8, TALL_ROWS = 12 };
#elif defined(__AVX__)
enum { LANES = 8, TILE_ROWS = 4, TALL_ROWS = 6 };
#elif defined(__aarch64__)
enum { LANES = 4, TILE_ROWS = 8, TALL_ROWS = 12 };
#else
enum { LANES = 4, TILE_ROWS = 4, TALL_ROWS = 6 };
#endif
enum { TILE_VECS = 3, LETTERS = 6, PLACES = 67, KMER = 4, KMERS = 256, ALIGN = 64 };
enum { NO_GRADIENT = 255 }; /* in place of the winner's position in its pool: switched off by ReLU or dropout */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec x) { *(vec *)p = x; }
INLINE vec splat(float x) { return x - (vec){0}; }
INLINE ivec isplat(int32_t x) { return x - (ivec){0}; }
INLINE vec pick(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }
INLINE ivec ipick(ivec mask, ivec yes, ivec no) { return (yes & mask) | (no & ~mask); }
INLINE float total(vec x) {
    float sum = 0;
    UNROLL for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}
INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* torch.tanh. A rational function, within a few units in the last place; beyond the clamp tanh is 1 in float32.
 * Source of the coefficients: Eigen, MathFunctionsImpl.h (ptanh_float). A NaN passes the clamp, as it should. */
INLINE vec tanh_of(vec x) {
    const float limit = 7.90531110763549805f;
    x = pick(x > limit, splat(limit), x);
    x = pick(x < -limit, splat(-limit), x);
    vec y = x * x;
    vec p = -2.76076847742355e-16f * y + 2.00018790482477e-13f;
    p = p * y - 8.60467152213735e-11f;
    p = p * y + 5.12229709037114e-08f;
    p = p * y + 1.48572235717979e-05f;
    p = p * y + 6.37261928875436e-04f;
    p = p * y + 4.89352455891786e-03f;
    vec q = 1.19825839466702e-06f * y + 1.18534705686654e-04f;
    q = q * y + 2.26843463243900e-03f;
    q = q * y + 4.89352518554385e-03f;
    return x * p / q;
}

/* torch.sigmoid */
INLINE vec logistic(vec x) { return .5f * tanh_of(.5f * x) + .5f; }

/* ---- What the caller passes; binding.py mirrors these three. */

typedef struct { /* ModelConfig */
    int64_t conv1_channels, conv2_channels, conv1_kernel, conv2_kernel, pool, hidden;
    int64_t attention; /* attention_size; 0: no attention */
    int64_t lstm;      /* else GRU */
    int64_t relu;      /* rnn_activation */
    int64_t masked;
    int64_t codons; /* whether codes say where the codons are */
} Sizes;

typedef struct {
    int64_t sequences, width; /* codes are (sequences, width) */
    const uint8_t *codes;
    const int64_t *lengths;
    int64_t threads;
    int64_t keep; /* 1: a backward pass will follow */
    uint32_t seed;
    float dropout[2];        /* probability after the first and the second pooling; 0 in evaluation */
    uint32_t whole_channels; /* dropout_kind: channels of a sequence over all rows, else single entries */
} Batch;

typedef struct { /* parameters as PyTorch lays them out, or their gradients; index 1 is the reverse direction */
    float *conv1, *conv2;
    float *w_ih[2], *w_hh[2], *b_ih[2], *b_hh[2];
    float *attention_w, *attention_b, *attention_v;
    float *codon_bias; /* (66, conv1_channels) */
} Tensors;

/* ---- Matrix products of small, padded matrices. */

/* c[m][j] = from[m][j] + sum over k of a[m * a_row + k * a_step] * b[k][j], in registers. `rows` and `vecs` are
 * constants where this is inlined. */
INLINE void tile(const int rows, const int vecs, int64_t depth, const float *a, int64_t a_row, int64_t a_step,
                 const float *b, int64_t b_row, const float *from, int64_t from_row, float *c, int64_t c_row) {
    vec sum[TALL_ROWS][TILE_VECS];
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vecs; v++) sum[m][v] = load(from + m * from_row + v * LANES);
    for (int64_t k = 0; k < depth; k++, a += a_step, b += b_row) {
        vec w[TILE_VECS];
        UNROLL for (int v = 0; v < vecs; v++) w[v] = load(b + v * LANES);
        UNROLL for (int m = 0; m < rows; m++) {
            const float x = a[m * a_row];
            UNROLL for (int v = 0; v < vecs; v++) sum[m][v] += x * w[v];
        }
    }
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vecs; v++) store(c + m * c_row + v * LANES, sum[m][v]);
}

/* All rows of one panel of columns, `vecs` vectors wide: as many as fit into the registers, then what is left. */
#define TILES(ROWS)                                                                                                   \
    for (; m + (ROWS) <= rows; m += (ROWS))                                                                           \
        tile(ROWS, vecs, depth, a + m * a_row, a_row, a_step, b, b_row, from + m * from_row, from_row, c + m * c_row, \
             c_row);
INLINE void panel(const int vecs, int64_t rows, int64_t depth, const float *a, int64_t a_row, int64_t a_step,
                  const float *b, int64_t b_row, const float *from, int64_t from_row, float *c, int64_t c_row) {
    int64_t m = 0;
    if (vecs == 2) TILES(TALL_ROWS)
    TILES(TILE_ROWS) TILES(4) TILES(2) TILES(1)
}

/* Width of the next panel, in vectors: three wide as far as that leaves none of one, which would be slow. */
INLINE int panel_width(int64_t left) { return left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3; }

/* torch.addmm(from, a, b): c (rows x columns) = from + a (rows x depth) @ b, with b packed by `pack`. Rows of a may
 * overlap or run backwards; from_row 0 adds the same row (a bias) to all. */
static void multiply(int64_t rows, int64_t depth, int64_t columns, const float *a, int64_t a_row, const float *packed,
                     const float *from, int64_t from_row, float *c, int64_t c_row) {
    for (int64_t left = columns / LANES; left > 0;) {
        const int vecs = panel_width(left);
        const int64_t wide = vecs * LANES;
        if (vecs == 3) panel(3, rows, depth, a, a_row, 1, packed, 3 * LANES, from, from_row, c, c_row);
        else if (vecs == 2) panel(2, rows, depth, a, a_row, 1, packed, 2 * LANES, from, from_row, c, c_row);
        else panel(1, rows, depth, a, a_row, 1, packed, LANES, from, from_row, c, c_row);
        packed += depth * wide, from += wide, c += wide, left -= vecs;
    }
}

/* c (features x columns) += a.T @ b, with a (depth x features, a_row apart) and b (depth x columns, b_row apart). */
static void multiply_transposed(int64_t features, int64_t depth, int64_t columns, const float *a, int64_t a_row,
                                const float *b, int64_t b_row, float *c, int64_t c_row) {
    for (int64_t left = columns / LANES; left > 0;) {
        const int vecs = panel_width(left);
        const int64_t wide = vecs * LANES;
        if (vecs == 3) panel(3, features, depth, a, 1, a_row, b, b_row, c, c_row, c, c_row);
        else if (vecs == 2) panel(2, features, depth, a, 1, a_row, b, b_row, c, c_row, c, c_row);
        else panel(1, features, depth, a, 1, a_row, b, b_row, c, c_row, c, c_row);
        b += wide, c += wide, left -= vecs;
    }
}

/* Where element (k, j) of a matrix of `depth` rows and `columns` columns stands once it is packed in panels: panels
 * one after the other, each row by row. `step` gets the distance from one k to the next. */
static int64_t packed_at(int64_t k, int64_t j, int64_t depth, int64_t columns, int64_t *step) {
    int64_t left = columns / LANES, start = 0;
    int64_t wide = panel_width(left) * LANES;
    while (j >= start + wide) start += wide, left -= wide / LANES, wide = panel_width(left) * LANES;
    *step = wide;
    return start * depth + k * wide + j - start;
}

/* Copy source[k * k_step + j * j_step], k < depth_used and j < columns_used, into a packed matrix that is zero so far,
 * from its column `first` on. */
static void pack(int64_t depth_used, int64_t columns_used, const float *source, int64_t k_step, int64_t j_step,
                 int64_t first_k, int64_t first, int64_t depth, int64_t columns, float *packed) {
    for (int64_t j = 0; j < columns_used; j++) {
        int64_t step;
        float *column = packed + packed_at(first_k, first + j, depth, columns, &step);
        for (int64_t k = 0; k < depth_used; k++) column[k * step] = source[k * k_step + j * j_step];
    }
}

/* ---- The plan: which sequences, in which groups, and where everything lies in the workspace. */

typedef struct {
    int64_t index;          /* in the batch */
    const uint8_t *codes;   /* from the first one on that is not padding in front */
    int64_t present, lead;  /* how many codes are there, and how many zeros stand before them */
    int64_t steps, rows1;   /* rows after the second and the first pooling */
    int64_t zero1, zero2;   /* how many of these, from the first on, see nothing but zeros in front */
    int64_t row;            /* of its first step within its group */
    int64_t row1;           /* of its first row after the first pooling, in the group's activations */
} Sequence;

typedef struct { /* of one group; kept from forward to backward, or one thread's where there is no backward */
    float *x1, *x2;         /* (rows1, c1), (rows2, c2): after the convolution blocks */
    uint8_t *arg1, *arg2;   /* the same shapes: which position of the pool won, or NO_GRADIENT */
    float *states;          /* (rows2, 2 h): of the recurrent layer, before its activation */
    float *gates[2];        /* (rows2, 4 h) of each direction */
    float *cells;           /* (rows2, 2 h), LSTM only */
    float *hidden;          /* (rows2, a): tanh of the attention's hidden layer */
    float *alpha;           /* (rows2): attention weights */
} Activations;

typedef struct { /* a thread's own */
    uint8_t *codes, *kmers; /* of one sequence, padding included */
    uint8_t *places;        /* what each code is to the reading frame: codon_states() in rnatracker/model/network.py */
    float *y;               /* convolution outputs of a block of pools */
    float *pre, *sum;       /* the recurrent step: a block's input projections, a step's recurrent ones */
    float *state, *cell;    /* (group, h) */
    float *d_states, *d_x2, *d_x1;
    float *rectified;       /* (BLOCK, 2 h): a block of activated states */
    float *pooled;          /* (2 h) */
    float *weight;          /* (rows2): a derivative per step; also the list of the sparse products */
    const float **source;
    Activations activations;
} Scratch;

typedef struct { /* gradients as the kernels sum them up, one set a thread */
    float *table, *letters; /* (chunks, KMERS, c1) and (kernel, LETTERS, c1) */
    float *frame;           /* (PLACES, c1) */
    float *conv2;           /* (c2, kernel * c1) */
    float *wx[2], *wh[2], *b[2];
    float *aw, *ab, *av;    /* (2 h, a), (a), (a) */
} Sums;

typedef struct {
    Sizes s;
    Batch b;
    int64_t c1, c2, h, a;       /* padded sizes */
    int64_t chunks, window;     /* k-mers in a kernel of the first convolution; floats under one of the second */
    int64_t wide;               /* gates that the input and the recurrent projection each have, times h: 3 or 4 */
    int64_t threads, groups, group_size;
    int64_t rows2, rows1, longest; /* the maximum of a group, of a sequence, and of codes of a sequence */
    Sequence *sequences;        /* by falling steps */
    float *table, *letters, *frame, *conv2, *wx[2], *wh[2], *bx[2], *bh[2], *aw, *ab, *av, *zeros;
    float *conv2_back, *wx_back[2], *wh_back[2], *aw_back;
    Activations *activations;   /* of each group, where they are kept */
    Scratch *scratch;           /* of each thread */
    float *sums;                /* (threads, sums_size) */
    int64_t sums_size;
} Plan;

typedef struct {
    char *base; /* NULL: only measure */
    int64_t used;
} Arena;

static void *take(Arena *arena, int64_t count, int64_t size) {
    void *at = arena->base ? arena->base + arena->used : NULL;
    arena->used += (count * size + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}
static float *floats(Arena *arena, int64_t count) { return take(arena, count, sizeof(float)); }

/* Steps of the recurrent layer that `length` nucleotides give: steps_of() in rnatracker/model/network.py. */
static int64_t steps_of(const Sizes *s, int64_t length) {
    const int64_t first = (length - s->conv1_kernel + 1) / s->pool; /* below 0 it rounds up, and then is below 1 too */
    return max_of((first - s->conv2_kernel + 1) / s->pool, 1);
}

/* How many outputs of a convolution and its pooling see nothing but the first `zeros` inputs. */
static int64_t zero_rows(int64_t zeros, int64_t kernel, int64_t pool) {
    const int64_t seen = kernel + pool - 1;
    return zeros < seen ? 0 : (zeros - seen) / pool + 1;
}

static void plan_sequence(const Plan *p, int64_t index, Sequence *q) {
    const Sizes *s = &p->s;
    const int64_t field = (s->pool + s->conv2_kernel - 1) * s->pool + s->conv1_kernel - 1;
    const int64_t width = max_of(p->b.width, field);
    const uint8_t *codes = p->b.codes + index * p->b.width;
    int64_t skipped = 0;
    q->index = index;
    if (!s->masked)
        while (skipped < p->b.width && !codes[skipped]) skipped++;
    q->codes = codes + skipped;
    q->present = p->b.width - skipped;
    q->lead = s->masked ? 0 : width - q->present;
    q->steps = steps_of(s, s->masked ? p->b.lengths[index] : width);
    q->rows1 = q->steps * s->pool + s->conv2_kernel - 1;
    q->zero1 = min_of(zero_rows(q->lead, s->conv1_kernel, s->pool), q->rows1);
    q->zero2 = min_of(zero_rows(q->zero1, s->conv2_kernel, s->pool), q->steps);
}

static int by_falling_steps(const void *left, const void *right) {
    const Sequence *a = left, *b = right;
    if (a->steps != b->steps) return a->steps > b->steps ? -1 : 1;
    return a->index > b->index ? 1 : -1;
}

/* Sequences of a group: dealt out like cards, so that all groups of a round have like work. */
static int64_t group_count(const Plan *p, int64_t group) {
    const int64_t round = group / p->threads, first = round * p->threads * p->group_size + group % p->threads;
    const int64_t end = min_of(p->b.sequences, (round + 1) * p->threads * p->group_size);
    return first < end ? (end - first + p->threads - 1) / p->threads : 0;
}
static Sequence *group_member(const Plan *p, int64_t group, int64_t m) {
    return p->sequences + group / p->threads * p->threads * p->group_size + group % p->threads + m * p->threads;
}

/* Sequences that go through the recurrent layer together: enough to use its weights while they are in registers and
 * in the cache, few enough that their activations are in the cache too; large weights want more. */
static int64_t group_limit(const Plan *p) { return p->h <= 64 ? 8 : p->h <= 128 ? 16 : 32; }

static void plan_groups(Plan *p) {
    const int64_t n = p->b.sequences;
    p->threads = min_of(max_of(p->b.threads, 1), n);
    const int64_t rounds = (n + p->threads * group_limit(p) - 1) / (p->threads * group_limit(p));
    p->group_size = (n + rounds * p->threads - 1) / (rounds * p->threads);
    p->groups = rounds * p->threads;
    for (int64_t i = 0; i < n; i++) plan_sequence(p, i, p->sequences + i);
    qsort(p->sequences, n, sizeof(Sequence), by_falling_steps);
    for (int64_t g = 0; g < p->groups; g++) {
        int64_t row = 0, row1 = 0;
        for (int64_t m = 0; m < group_count(p, g); m++) {
            Sequence *q = group_member(p, g, m);
            q->row = row, row += q->steps;
            q->row1 = row1, row1 += p->b.keep ? q->rows1 : 0; /* without a backward pass one sequence's are there at a time */
            p->rows1 = max_of(p->rows1, q->rows1);
        }
        p->rows2 = max_of(p->rows2, row);
    }
    p->longest = p->rows1 * p->s.pool + p->s.conv1_kernel - 1;
}

enum { BLOCK = 64, STEPS = 16 }; /* rows of a block of the attention and the sparse products; steps projected ahead */

/* Pools whose convolution outputs are computed at once: some tens of rows, to use whole tiles. */
static int64_t pools_at_once(const Plan *p) { return max_of(48 / p->s.pool, 1); }

static void lay_out_weights(Plan *p, Arena *arena) {
    const Sizes *s = &p->s;
    p->zeros = floats(arena, max_of(max_of(p->c1, p->c2), max_of(4 * p->h, p->a)));
    p->letters = floats(arena, s->conv1_kernel * LETTERS * p->c1);
    p->table = floats(arena, p->chunks * KMERS * p->c1);
    p->frame = floats(arena, PLACES * p->c1);
    p->conv2 = floats(arena, p->window * p->c2);
    if (p->b.keep) p->conv2_back = floats(arena, p->window * p->c2);
    for (int d = 0; d < 2; d++) {
        p->wx[d] = floats(arena, p->c2 * p->wide);
        p->wh[d] = floats(arena, p->h * p->wide);
        p->bx[d] = floats(arena, p->wide);
        p->bh[d] = floats(arena, p->wide);
        if (!p->b.keep) continue;
        p->wx_back[d] = floats(arena, p->c2 * p->wide);
        p->wh_back[d] = floats(arena, p->h * p->wide);
    }
    p->aw = floats(arena, 2 * p->h * p->a);
    p->ab = floats(arena, p->a);
    p->av = floats(arena, p->a);
    if (p->b.keep) p->aw_back = floats(arena, 2 * p->h * p->a);
}

static void lay_out_activations(const Plan *p, Arena *arena, int64_t rows1, int64_t rows2, Activations *v) {
    v->x1 = floats(arena, rows1 * p->c1);
    v->x2 = floats(arena, rows2 * p->c2);
    v->states = floats(arena, rows2 * 2 * p->h);
    v->alpha = floats(arena, rows2);
    v->hidden = floats(arena, (p->b.keep ? rows2 : BLOCK) * p->a);
    v->arg1 = v->arg2 = NULL;
    v->gates[0] = v->gates[1] = v->cells = NULL;
    if (!p->b.keep) return;
    v->arg1 = take(arena, rows1 * p->c1, 1);
    v->arg2 = take(arena, rows2 * p->c2, 1);
    for (int d = 0; d < 2; d++) v->gates[d] = floats(arena, rows2 * 4 * p->h);
    if (p->s.lstm) v->cells = floats(arena, rows2 * 2 * p->h);
}

static void lay_out_scratch(const Plan *p, Arena *arena, Scratch *t) {
    const int64_t n = p->group_size;
    t->codes = take(arena, p->longest + KMER * p->chunks, 1);
    t->kmers = take(arena, p->longest + KMER * p->chunks, 1);
    t->places = take(arena, p->longest + KMER * p->chunks, 1);
    t->y = floats(arena, max_of(pools_at_once(p) * p->s.pool * p->c2, p->s.pool * p->c1));
    t->pre = p->b.keep ? NULL : floats(arena, n * STEPS * p->wide);
    t->sum = floats(arena, n * 4 * p->h);
    t->state = floats(arena, n * p->h);
    t->cell = floats(arena, n * p->h);
    t->rectified = floats(arena, BLOCK * 2 * p->h);
    t->pooled = floats(arena, 2 * p->h);
    if (!p->b.keep) {
        lay_out_activations(p, arena, p->rows1, p->rows2, &t->activations);
        return;
    }
    t->d_states = floats(arena, p->rows2 * 2 * p->h);
    t->d_x2 = floats(arena, p->rows2 * p->c2);
    t->d_x1 = floats(arena, p->rows1 * p->c1);
    const int64_t list = max_of(BLOCK, (p->s.pool + 1) * p->c2); /* conv2_backward */
    t->weight = floats(arena, max_of(list, p->rows2));
    t->source = take(arena, list, sizeof(float *));
}

static void lay_out_sums(const Plan *p, Arena *arena, Sums *g) {
    g->table = floats(arena, p->chunks * KMERS * p->c1);
    g->letters = floats(arena, p->s.conv1_kernel * LETTERS * p->c1);
    g->frame = floats(arena, PLACES * p->c1);
    g->conv2 = floats(arena, p->c2 * p->window);
    for (int d = 0; d < 2; d++) {
        g->wx[d] = floats(arena, p->c2 * p->wide);
        g->wh[d] = floats(arena, p->h * p->wide);
        g->b[d] = floats(arena, 4 * p->h);
    }
    g->aw = floats(arena, 2 * p->h * p->a);
    g->ab = floats(arena, p->a);
    g->av = floats(arena, p->a);
}

/* Fill in the plan; with no workspace it only says how large that must be. The same batch gives the same plan. */
static int64_t make_plan(Plan *p, const Sizes *s, const Batch *b, void *workspace) {
    Arena arena = {workspace, 0}, none = {NULL, 0};
    Sums unused;
    memset(p, 0, sizeof *p);
    p->s = *s, p->b = *b;
    p->c1 = padded(s->conv1_channels), p->c2 = padded(s->conv2_channels);
    p->h = padded(s->hidden), p->a = padded(s->attention);
    p->chunks = (s->conv1_kernel + KMER - 1) / KMER;
    p->window = s->conv2_kernel * p->c1;
    p->wide = (s->lstm ? 4 : 3) * p->h;
    p->sequences = malloc(b->sequences * sizeof(Sequence));
    plan_groups(p);
    p->activations = calloc(p->groups, sizeof(Activations));
    p->scratch = calloc(p->threads, sizeof(Scratch));
    lay_out_weights(p, &arena);
    for (int64_t t = 0; t < p->threads; t++) lay_out_scratch(p, &arena, p->scratch + t);
    if (!b->keep) return arena.used;
    for (int64_t g = 0; g < p->groups; g++) {
        int64_t rows1 = 0, rows2 = 0;
        for (int64_t m = 0; m < group_count(p, g); m++)
            rows1 += group_member(p, g, m)->rows1, rows2 += group_member(p, g, m)->steps;
        lay_out_activations(p, &arena, rows1, rows2, p->activations + g);
    }
    lay_out_sums(p, &none, &unused);
    p->sums_size = none.used / sizeof(float);
    p->sums = floats(&arena, p->threads * p->sums_size);
    return arena.used;
}

static void drop_plan(Plan *p) { free(p->sequences), free(p->activations), free(p->scratch); }

static Sums sums_of(const Plan *p, int64_t thread) {
    Sums sums;
    Arena arena = {(char *)(p->sums + thread * p->sums_size), 0};
    lay_out_sums(p, &arena, &sums);
    return sums;
}

/* ---- Dropout: a hash of (seed, layer, sequence, row, channel), so that neither threads nor groups change it. Where whole
 * channels are dropped, all rows are hashed as the first one. */

typedef struct {
    uint32_t key, threshold; /* an entry is dropped where its hash is below the threshold; 0: no dropout */
    uint32_t row_step;       /* of the key */
    float scale;
} Dropout;

/* Source: Ettinger's lowbias32, github.com/skeeto/hash-prospector. */
INLINE uint32_t hash(uint32_t x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ x >> 16;
}
INLINE uvec hashes(uvec x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static float dropout_scale(const Plan *p, int layer) { return 1 / (1 - p->b.dropout[layer]); }

static Dropout dropout_of(const Plan *p, const Sequence *q, int layer) {
    const uint32_t threshold = (uint32_t)fmin((double)p->b.dropout[layer] * 4294967296.0, 4294967295.0);
    const uint32_t key = hash(p->b.seed ^ hash(2 * (uint32_t)q->index + layer));
    return (Dropout){key, threshold, p->b.whole_channels ? 0 : 0x9e3779b9u, dropout_scale(p, layer)};
}

/* ---- A pool: F.dropout(F.relu(F.max_pool1d(...))), and which position won. */

/* Finish LANES channels from `channel` on, whose maximum is `best`, at position `won`. A NaN is passed on. */
INLINE void finish_pool(vec best, ivec won, int64_t row, int64_t channel, Dropout d, float *out, uint8_t *arg) {
    ivec live = ~(best <= 0);
    if (d.threshold) {
        uvec lane;
        UNROLL for (int i = 0; i < LANES; i++) lane[i] = i;
        const uint32_t key = hash(d.key + (uint32_t)row * d.row_step) + (uint32_t)channel;
        live &= hashes(lane + key) >= d.threshold;
        best *= d.scale;
    }
    store(out + channel, pick(live, best, (vec){0}));
    if (arg) *(bytes *)(arg + channel) = __builtin_convertvector(ipick(live, won, isplat(NO_GRADIENT)), bytes);
}

/* One row of pooled outputs from `pool` rows of y, `channels` apart. */
INLINE void pool_row(int64_t pool, int64_t channels, const float *y, int64_t row, Dropout d, float *out, uint8_t *arg) {
    for (int64_t v = 0; v < channels; v += LANES) {
        vec best = load(y + v);
        ivec won = {0};
        for (int64_t i = 1; i < pool; i++) {
            const vec next = load(y + i * channels + v);
            const ivec higher = next > best;
            best = pick(higher, next, best), won = ipick(higher, isplat((int32_t)i), won);
        }
        finish_pool(best, won, row, v, d, out, arg);
    }
}

/* ---- First block: F.dropout(F.relu(F.max_pool1d(F.conv1d(one_hot[codes].T, w), pool))).
 *
 * A convolution over one-hot letters is a sum of entries of a table: one entry for each run of KMER letters under the
 * kernel, instead of 4 * KMER products. Windows with an ambiguous letter or padding, which are rare, are summed letter
 * by letter. With codons each window's sum begins with a bias, by the place of its first letter in a codon. */

/* letters[k][code][channel]: what code `code` at position k of the kernel adds; table[chunk][k-mer][channel];
 * frame[place][channel], where place 0 is outside of the reading frame and adds nothing. */
static void pack_conv1(const Plan *p, const float *w, const float *frame) {
    const int64_t width = p->s.conv1_kernel, c1 = p->c1;
    memset(p->frame, 0, PLACES * c1 * sizeof(float));
    if (p->s.codons)
        for (int64_t place = 1; place < PLACES; place++)
            memcpy(p->frame + place * c1, frame + (place - 1) * p->s.conv1_channels, p->s.conv1_channels * sizeof(float));
    memset(p->letters, 0, width * LETTERS * c1 * sizeof(float));
    for (int64_t k = 0; k < width; k++) {
        float *rows = p->letters + k * LETTERS * c1;
        for (int64_t o = 0; o < p->s.conv1_channels; o++)
            for (int64_t letter = 0; letter < 4; letter++) {
                const float value = w[(o * 4 + letter) * width + k];
                rows[(1 + letter) * c1 + o] = value;
                rows[5 * c1 + o] += .25f * value;
            }
    }
    for (int64_t chunk = 0; chunk < p->chunks; chunk++)
        for (int64_t kmer = 0; kmer < KMERS; kmer++)
            for (int64_t v = 0; v < c1; v += LANES) {
                vec sum = {0};
                for (int64_t k = chunk * KMER; k < min_of(width, (chunk + 1) * KMER); k++)
                    sum += load(p->letters + (k * LETTERS + 1 + (kmer >> (6 - 2 * (k % KMER)) & 3)) * c1 + v);
                store(p->table + (chunk * KMERS + kmer) * c1 + v, sum);
            }
}

/* Write a sequence's codes with its padding, the k-mer that begins at each, and each one's place in its codon. Returns 0
 * if a code is unknown. */
static int spell(const Plan *p, const Sequence *q, Scratch *t) {
    const int64_t needed = q->rows1 * p->s.pool + p->s.conv1_kernel - 1, all = needed + KMER * p->chunks;
    const int64_t beyond = p->s.codons ? max_of(3 - p->s.conv1_kernel, 0) : 0; /* of the codon at the last window */
    const int64_t lead = min_of(q->lead, needed), present = min_of(q->present, needed + beyond - lead);
    uint8_t *codes = t->codes, *kmers = t->kmers, highest = 0;
    memset(codes, 0, lead);
    memcpy(codes + lead, q->codes, present);
    memset(codes + lead + present, 0, all - lead - present);
    if (p->s.codons)
        for (int64_t i = 0; i < all; i++) {
            const uint8_t place = codes[i] >> 3;
            t->places[i] = place > 1 ? place + 63 : place;
            codes[i] = place < 4 ? codes[i] & 7 : LETTERS;
        }
    for (int64_t i = 0; i < needed; i++) highest = codes[i] > highest ? codes[i] : highest;
    for (int64_t i = 0; i + KMER <= all; i++) {
        const uint8_t a = codes[i] - 1, b = codes[i + 1] - 1, c = codes[i + 2] - 1, e = codes[i + 3] - 1;
        kmers[i] = (a & 3) << 6 | (b & 3) << 4 | (c & 3) << 2 | (e & 3);
        if (p->s.codons && t->places[i] == 1) t->places[i] = a < 4 && b < 4 && c < 4 ? 1 + (kmers[i] >> 2) : 0;
    }
    return highest < LETTERS;
}

/* The first position from `at` on, before `end`, whose code is not one of the four letters; `end` if there is none. */
INLINE int64_t next_unlike(const uint8_t *codes, int64_t at, int64_t end) {
    while (at < end && (uint8_t)(codes[at] - 1) < 4) at++;
    return at;
}

/* Sums of `pool` windows from position `at` on, letter by letter, into y. */
static void windows_by_letter(const Plan *p, const uint8_t *codes, const uint8_t *places, int64_t at, float *y) {
    for (int64_t i = 0; i < p->s.pool; i++)
        for (int64_t v = 0; v < p->c1; v += LANES) {
            vec sum = p->s.codons ? load(p->frame + places[at + i] * p->c1 + v) : (vec){0};
            for (int64_t k = 0; k < p->s.conv1_kernel; k++)
                sum += load(p->letters + (k * LETTERS + codes[at + i + k]) * p->c1 + v);
            store(y + i * p->c1 + v, sum);
        }
}

/* A pool whose windows have the four letters only. `chunks` and `pool` are constants for the usual sizes; `places`
 * is NULL, as a constant, where there is no reading frame. */
INLINE void pool_by_kmer(const int64_t chunks, const int64_t pool, const Plan *p, const uint8_t *kmers,
                         const uint8_t *places, int64_t row, Dropout d, float *out, uint8_t *arg) {
    const int64_t c1 = p->c1;
    for (int64_t v = 0; v < c1; v += LANES) {
        vec best = {0};
        ivec won = {0};
        for (int64_t i = 0; i < pool; i++) {
            vec sum = load(p->table + kmers[i] * c1 + v);
            for (int64_t c = 1; c < chunks; c++) sum += load(p->table + (c * KMERS + kmers[i + c * KMER]) * c1 + v);
            if (places) sum += load(p->frame + places[i] * c1 + v);
            const ivec higher = i ? (ivec)(sum > best) : isplat(-1);
            best = pick(higher, sum, best), won = ipick(higher, isplat((int32_t)i), won);
        }
        finish_pool(best, won, row, v, d, out, arg);
    }
}

static void conv1_forward(const Plan *p, const Sequence *q, Scratch *t, float *x1, uint8_t *arg1) {
    const int64_t pool = p->s.pool, width = p->s.conv1_kernel, c1 = p->c1, end = q->rows1 * pool + width - 1;
    const Dropout d = dropout_of(p, q, 0);
    int64_t unlike = -1;
    memset(x1, 0, q->zero1 * c1 * sizeof(float));
    if (arg1) memset(arg1, NO_GRADIENT, q->zero1 * c1);
    for (int64_t row = q->zero1; row < q->rows1; row++) {
        const int64_t at = row * pool;
        float *out = x1 + row * c1;
        uint8_t *arg = arg1 ? arg1 + row * c1 : NULL;
        if (unlike < at) unlike = next_unlike(t->codes, at, end);
        if (unlike < at + pool - 1 + width) {
            windows_by_letter(p, t->codes, t->places, at, t->y);
            pool_row(pool, c1, t->y, row, d, out, arg);
        } else if (p->s.codons) {
            const uint8_t *places = t->places + at;
            if (p->chunks == 3 && pool == 3) pool_by_kmer(3, 3, p, t->kmers + at, places, row, d, out, arg);
            else pool_by_kmer(p->chunks, pool, p, t->kmers + at, places, row, d, out, arg);
        } else if (p->chunks == 3 && pool == 3) pool_by_kmer(3, 3, p, t->kmers + at, NULL, row, d, out, arg);
        else if (p->chunks == 2 && pool == 3) pool_by_kmer(2, 3, p, t->kmers + at, NULL, row, d, out, arg);
        else pool_by_kmer(p->chunks, pool, p, t->kmers + at, NULL, row, d, out, arg);
    }
}

/* Add the gradient of one window, masked to the channels that it won, to the tables. */
INLINE void add_window(const int64_t chunks, const Plan *p, const Sums *g, const uint8_t *codes, const uint8_t *kmers,
                       int by_letter, int64_t v, vec gradient) {
    const int64_t c1 = p->c1;
    if (!by_letter) {
        for (int64_t c = 0; c < chunks; c++) {
            float *entry = g->table + (c * KMERS + kmers[c * KMER]) * c1 + v;
            store(entry, load(entry) + gradient);
        }
        return;
    }
    for (int64_t k = 0; k < p->s.conv1_kernel; k++) {
        float *entry = g->letters + (k * LETTERS + codes[k]) * c1 + v;
        store(entry, load(entry) + gradient);
    }
}

/* Backward of conv1_forward, to the weights only: codes have no gradient. Each output's goes to the one window that
 * won its pool. The factor of dropout is left to conv1_gradient. */
static void conv1_backward(const Plan *p, const Sequence *q, Scratch *t, const float *d_x1, const uint8_t *arg1,
                           const Sums *g) {
    const int64_t pool = p->s.pool, width = p->s.conv1_kernel, c1 = p->c1, end = q->rows1 * pool + width - 1;
    int64_t unlike = -1;
    for (int64_t row = q->zero1; row < q->rows1; row++) {
        const int64_t at = row * pool;
        if (unlike < at) unlike = next_unlike(t->codes, at, end);
        const int by_letter = unlike < at + pool - 1 + width;
        for (int64_t v = 0; v < c1; v += LANES) {
            const vec gradient = load(d_x1 + row * c1 + v);
            const ivec won = __builtin_convertvector(*(const bytes *)(arg1 + row * c1 + v), ivec);
            for (int64_t i = 0; i < pool; i++) {
                const vec share = pick(won == isplat((int32_t)i), gradient, (vec){0});
                const uint8_t *codes = t->codes + at + i, *kmers = t->kmers + at + i;
                if (p->chunks == 3) add_window(3, p, g, codes, kmers, by_letter, v, share);
                else add_window(p->chunks, p, g, codes, kmers, by_letter, v, share);
                if (!p->s.codons) continue;
                float *entry = g->frame + t->places[at + i] * c1 + v;
                store(entry, load(entry) + share);
            }
        }
    }
}

/* Turn the summed tables into the gradients of the weights, (channels, 4, kernel), and of the frame's bias. */
static void conv1_gradient(const Plan *p, const Sums *g, float *d_w, float *d_frame) {
    const int64_t width = p->s.conv1_kernel, c1 = p->c1;
    const float scale = dropout_scale(p, 0);
    if (p->s.codons)
        for (int64_t place = 1; place < PLACES; place++)
            for (int64_t o = 0; o < p->s.conv1_channels; o++)
                d_frame[(place - 1) * p->s.conv1_channels + o] = scale * g->frame[place * c1 + o];
    for (int64_t k = 0; k < width; k++) {
        float *rows = g->letters + k * LETTERS * c1;
        for (int64_t letter = 0; letter < 4; letter++)
            for (int64_t v = 0; v < c1; v += LANES) store(rows + (1 + letter) * c1 + v, load(rows + (1 + letter) * c1 + v) + .25f * load(rows + 5 * c1 + v));
        for (int64_t kmer = 0; kmer < KMERS; kmer++) {
            float *row = rows + (1 + (kmer >> (6 - 2 * (k % KMER)) & 3)) * c1;
            const float *entry = g->table + (k / KMER * KMERS + kmer) * c1;
            for (int64_t v = 0; v < c1; v += LANES) store(row + v, load(row + v) + load(entry + v));
        }
        for (int64_t letter = 0; letter < 4; letter++)
            for (int64_t o = 0; o < p->s.conv1_channels; o++)
                d_w[(o * 4 + letter) * width + k] = scale * rows[(1 + letter) * c1 + o];
    }
}

/* ---- Second block: F.dropout(F.relu(F.max_pool1d(F.conv1d(x1.T, w), pool))).
 *
 * Forward it is a matrix product whose left rows overlap, a block of pools at a time, so that the convolution's
 * outputs never leave the cache. Backward only one position of each pool has a gradient, so that products are sparse. */

static void pack_conv2(const Plan *p, const float *w) {
    const int64_t width = p->s.conv2_kernel, inputs = p->s.conv1_channels, outputs = p->s.conv2_channels;
    memset(p->conv2, 0, p->window * p->c2 * sizeof(float));
    for (int64_t k = 0; k < width; k++)
        pack(inputs, outputs, w + k, width, inputs * width, k * p->c1, 0, p->window, p->c2, p->conv2);
}
static void pack_conv2_back(const Plan *p, const float *w) { /* (c2, window): each channel's weights in one piece */
    const int64_t width = p->s.conv2_kernel, inputs = p->s.conv1_channels;
    memset(p->conv2_back, 0, p->window * p->c2 * sizeof(float));
    for (int64_t o = 0; o < p->s.conv2_channels; o++)
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t k = 0; k < width; k++)
                p->conv2_back[o * p->window + k * p->c1 + i] = w[(o * inputs + i) * width + k];
}

static void conv2_forward(const Plan *p, const Sequence *q, Scratch *t, const float *x1, float *x2, uint8_t *arg2) {
    const int64_t pool = p->s.pool, c2 = p->c2, block = pools_at_once(p);
    const Dropout d = dropout_of(p, q, 1);
    memset(x2, 0, q->zero2 * c2 * sizeof(float));
    if (arg2) memset(arg2, NO_GRADIENT, q->zero2 * c2);
    for (int64_t first = q->zero2; first < q->steps; first += block) {
        const int64_t rows = min_of(block, q->steps - first);
        multiply(rows * pool, p->window, c2, x1 + first * pool * p->c1, p->c1, p->conv2, p->zeros, 0, t->y, c2);
        for (int64_t i = 0; i < rows; i++) {
            const float *y = t->y + i * pool * c2;
            float *out = x2 + (first + i) * c2;
            uint8_t *arg = arg2 ? arg2 + (first + i) * c2 : NULL;
            if (pool == 3) pool_row(3, c2, y, first + i, d, out, arg);
            else pool_row(pool, c2, y, first + i, d, out, arg);
        }
    }
}

/* y += sum over i of weight[i] * source[i], `vecs` vectors from `at` on, in registers. */
INLINE void gather(const int vecs, int64_t count, const float *weight, const float *const *source, int64_t at, float *y) {
    vec sum[12];
    UNROLL for (int v = 0; v < vecs; v++) sum[v] = load(y + at + v * LANES);
    for (int64_t i = 0; i < count; i++) {
        const float x = weight[i];
        const float *row = source[i] + at;
        UNROLL for (int v = 0; v < vecs; v++) sum[v] += x * load(row + v * LANES);
    }
    UNROLL for (int v = 0; v < vecs; v++) store(y + at + v * LANES, sum[v]);
}
static void gather_all(int64_t size, int64_t count, const float *weight, const float *const *source, float *y) {
    int64_t at = 0;
    for (; at + 12 * LANES <= size; at += 12 * LANES) gather(12, count, weight, source, at, y);
    for (; at + 8 * LANES <= size; at += 8 * LANES) gather(8, count, weight, source, at, y);
    for (; at + 4 * LANES <= size; at += 4 * LANES) gather(4, count, weight, source, at, y);
    for (; at + LANES <= size; at += LANES) gather(1, count, weight, source, at, y);
}

/* Backward of conv2_forward: adds to the weights' sums, writes the gradient of x1. */
static void conv2_backward(const Plan *p, const Sequence *q, Scratch *t, const float *x1, const uint8_t *arg2,
                           const float *d_x2, const Sums *g) {
    const int64_t pool = p->s.pool, c1 = p->c1, c2 = p->c2;
    const float scale = dropout_scale(p, 1);
    memset(t->d_x1, 0, q->rows1 * c1 * sizeof(float));
    for (int64_t first = q->zero2; first < q->steps; first += BLOCK) {
        const int64_t last = min_of(first + BLOCK, q->steps);
        for (int64_t o = 0; o < p->s.conv2_channels; o++) { /* d_w[o] = sum of gradient * the window that won */
            int64_t count = 0;
            for (int64_t row = first; row < last; row++) {
                const uint8_t won = arg2[row * c2 + o];
                t->weight[count] = scale * d_x2[row * c2 + o];
                t->source[count] = x1 + (row * pool + won) * c1;
                count += won != NO_GRADIENT;
            }
            gather_all(p->window, count, t->weight, t->source, g->conv2 + o * p->window);
        }
        for (int64_t row = first; row < last; row++) { /* d_x1 of a window = sum of gradient * weights that it won */
            int64_t count[NO_GRADIENT + 1];
            memset(count, 0, (pool + 1) * sizeof(int64_t));
            for (int64_t o = 0; o < p->s.conv2_channels; o++) {
                const int64_t won = min_of(arg2[row * c2 + o], pool), at = won * c2 + count[won]++;
                t->weight[at] = scale * d_x2[row * c2 + o];
                t->source[at] = p->conv2_back + o * p->window;
            }
            for (int64_t i = 0; i < pool; i++)
                gather_all(p->window, count[i], t->weight + i * c2, t->source + i * c2, t->d_x1 + (row * pool + i) * c1);
        }
    }
}

static void conv2_gradient(const Plan *p, const Sums *g, float *d_w) {
    const int64_t width = p->s.conv2_kernel, inputs = p->s.conv1_channels;
    for (int64_t o = 0; o < p->s.conv2_channels; o++)
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t k = 0; k < width; k++)
                d_w[(o * inputs + i) * width + k] = g->conv2[o * p->window + k * p->c1 + i];
}

/* ---- Recurrent layer: torch.nn.GRU or torch.nn.LSTM, one direction after the other.
 *
 * A row of gates holds, in units of h floats, [n r z] for a GRU, after them what r multiplies, and [i f g o] for an
 * LSTM. The input projection of STEPS steps is one product into these rows; each step then adds the recurrent
 * projection of all sequences of the group that are still running, laid out as [r z n] or [i f g o]. Backward, the
 * gates are replaced in place by the derivatives of their projections. */

/* Where gate `gate`, in PyTorch's order, stands in the input and in the recurrent projection, in units of h. */
INLINE int64_t input_place(const Plan *p, int64_t gate) { return p->s.lstm ? gate : (gate + 1) % 3; }
INLINE int64_t recurrent_place(const Plan *p, int64_t gate) { (void)p; return gate; }
INLINE int64_t gate_count(const Plan *p) { return p->s.lstm ? 4 : 3; }

static void pack_recurrent(const Plan *p, int d, const Tensors *w) {
    const int64_t units = p->s.hidden, inputs = p->s.conv2_channels, h = p->h;
    memset(p->wx[d], 0, p->c2 * p->wide * sizeof(float)), memset(p->wh[d], 0, h * p->wide * sizeof(float));
    memset(p->bx[d], 0, p->wide * sizeof(float)), memset(p->bh[d], 0, p->wide * sizeof(float));
    for (int64_t gate = 0; gate < gate_count(p); gate++) {
        const int64_t x = input_place(p, gate) * h, r = recurrent_place(p, gate) * h;
        pack(inputs, units, w->w_ih[d] + gate * units * inputs, 1, inputs, 0, x, p->c2, p->wide, p->wx[d]);
        pack(units, units, w->w_hh[d] + gate * units * units, 1, units, 0, r, h, p->wide, p->wh[d]);
        memcpy(p->bx[d] + x, w->b_ih[d] + gate * units, units * sizeof(float));
        memcpy(p->bh[d] + r, w->b_hh[d] + gate * units, units * sizeof(float));
    }
}
static void pack_recurrent_back(const Plan *p, int d, const Tensors *w) {
    const int64_t units = p->s.hidden, inputs = p->s.conv2_channels, h = p->h;
    memset(p->wx_back[d], 0, p->c2 * p->wide * sizeof(float)), memset(p->wh_back[d], 0, h * p->wide * sizeof(float));
    for (int64_t gate = 0; gate < gate_count(p); gate++) {
        const int64_t x = input_place(p, gate) * h, r = recurrent_place(p, gate) * h;
        pack(units, inputs, w->w_ih[d] + gate * units * inputs, inputs, 1, x, 0, p->wide, p->c2, p->wx_back[d]);
        pack(units, units, w->w_hh[d] + gate * units * units, units, 1, r, 0, p->wide, h, p->wh_back[d]);
    }
}

/* One step of one sequence: torch.nn.GRUCell after its products. `keep` (may be `input`, may be NULL) gets the gates. */
static void gru_cell(int64_t h, const float *input, const float *recurrent, float *state, float *out, float *keep) {
    for (int64_t j = 0; j < h; j += LANES) {
        const vec r = logistic(load(input + h + j) + load(recurrent + j));
        const vec z = logistic(load(input + 2 * h + j) + load(recurrent + h + j));
        const vec hidden = load(recurrent + 2 * h + j);
        const vec n = tanh_of(load(input + j) + r * hidden);
        const vec next = n + z * (load(state + j) - n);
        store(state + j, next), store(out + j, next);
        if (keep) store(keep + j, n), store(keep + h + j, r), store(keep + 2 * h + j, z), store(keep + 3 * h + j, hidden);
    }
}

/* Backward of it. `gates` become the derivatives of [n r z] and of what r multiplies; `projected` gets [r z n] of the
 * recurrent projection. `carry` comes in as the derivative by the next step and leaves as a part of the previous one's. */
static void gru_cell_backward(int64_t h, float *gates, const float *before, const float *d_out, float *carry, float *projected) {
    for (int64_t j = 0; j < h; j += LANES) {
        const vec n = load(gates + j), r = load(gates + h + j), z = load(gates + 2 * h + j), hidden = load(gates + 3 * h + j);
        const vec d = load(carry + j) + load(d_out + j);
        const vec d_n = d * (1 - z) * (1 - n * n);
        const vec d_z = d * (load(before + j) - n) * z * (1 - z);
        const vec d_r = d_n * hidden * r * (1 - r);
        store(gates + j, d_n), store(gates + h + j, d_r), store(gates + 2 * h + j, d_z), store(gates + 3 * h + j, d_n * r);
        store(projected + j, d_r), store(projected + h + j, d_z), store(projected + 2 * h + j, d_n * r);
        store(carry + j, d * z);
    }
}

/* torch.nn.LSTMCell after its products. */
static void lstm_cell(int64_t h, const float *input, const float *recurrent, float *state, float *cell, float *out,
                      float *keep, float *keep_cell) {
    for (int64_t j = 0; j < h; j += LANES) {
        const vec i = logistic(load(input + j) + load(recurrent + j));
        const vec f = logistic(load(input + h + j) + load(recurrent + h + j));
        const vec g = tanh_of(load(input + 2 * h + j) + load(recurrent + 2 * h + j));
        const vec o = logistic(load(input + 3 * h + j) + load(recurrent + 3 * h + j));
        const vec c = f * load(cell + j) + i * g, next = o * tanh_of(c);
        store(cell + j, c), store(state + j, next), store(out + j, next);
        if (!keep) continue;
        store(keep + j, i), store(keep + h + j, f), store(keep + 2 * h + j, g), store(keep + 3 * h + j, o);
        store(keep_cell + j, c);
    }
}

static void lstm_cell_backward(int64_t h, float *gates, const float *cell, const float *before, const float *d_out,
                               float *carry, float *carry_cell, float *projected) {
    for (int64_t j = 0; j < h; j += LANES) {
        const vec i = load(gates + j), f = load(gates + h + j), g = load(gates + 2 * h + j), o = load(gates + 3 * h + j);
        const vec t = tanh_of(load(cell + j)), d = load(carry + j) + load(d_out + j);
        const vec d_c = load(carry_cell + j) + d * o * (1 - t * t);
        const vec d_i = d_c * g * i * (1 - i), d_f = d_c * load(before + j) * f * (1 - f);
        const vec d_g = d_c * i * (1 - g * g), d_o = d * t * o * (1 - o);
        store(gates + j, d_i), store(gates + h + j, d_f), store(gates + 2 * h + j, d_g), store(gates + 3 * h + j, d_o);
        store(projected + j, d_i), store(projected + h + j, d_f), store(projected + 2 * h + j, d_g), store(projected + 3 * h + j, d_o);
        store(carry_cell + j, d_c * f), store(carry + j, (vec){0});
    }
}

/* The row, within its sequence, that direction d comes to at step s. */
INLINE int64_t row_at(const Sequence *q, int d, int64_t s) { return d ? q->steps - 1 - s : s; }

static void recurrent_forward(const Plan *p, int64_t group, int d, Scratch *t, const Activations *v) {
    const int64_t h = p->h, wide = p->wide, across = d ? -1 : 1, count = group_count(p, group);
    const int64_t longest = group_member(p, group, 0)->steps;
    int64_t running = count;
    memset(t->state, 0, count * h * sizeof(float)), memset(t->cell, 0, count * h * sizeof(float));
    for (int64_t s = 0; s < longest; s++) {
        while (group_member(p, group, running - 1)->steps <= s) running--;
        if (s % STEPS == 0)
            for (int64_t m = 0; m < running; m++) {
                const Sequence *q = group_member(p, group, m);
                const int64_t row = q->row + row_at(q, d, s);
                float *pre = p->b.keep ? v->gates[d] + row * 4 * h : t->pre + m * STEPS * wide;
                multiply(min_of(STEPS, q->steps - s), p->c2, wide, v->x2 + row * p->c2, across * p->c2, p->wx[d],
                         p->bx[d], 0, pre, p->b.keep ? across * 4 * h : wide);
            }
        multiply(running, h, wide, t->state, h, p->wh[d], p->bh[d], 0, t->sum, wide);
        for (int64_t m = 0; m < running; m++) {
            const Sequence *q = group_member(p, group, m);
            const int64_t row = q->row + row_at(q, d, s);
            float *keep = p->b.keep ? v->gates[d] + row * 4 * h : NULL;
            const float *pre = keep ? keep : t->pre + (m * STEPS + s % STEPS) * wide;
            float *out = v->states + row * 2 * h + d * h;
            if (!p->s.lstm) gru_cell(h, pre, t->sum + m * wide, t->state + m * h, out, keep);
            else lstm_cell(h, pre, t->sum + m * wide, t->state + m * h, t->cell + m * h, out, keep,
                           keep ? v->cells + row * 2 * h + d * h : NULL);
        }
    }
}

/* Through time: d_states, (rows2, 2 h), to the derivatives of the projections, in v->gates[d]. */
static void recurrent_backward(const Plan *p, int64_t group, int d, Scratch *t, const Activations *v) {
    const int64_t h = p->h, wide = p->wide, count = group_count(p, group);
    int64_t running = 0;
    memset(t->state, 0, count * h * sizeof(float)), memset(t->cell, 0, count * h * sizeof(float));
    for (int64_t s = group_member(p, group, 0)->steps - 1; s >= 0; s--) {
        while (running < count && group_member(p, group, running)->steps > s) running++;
        for (int64_t m = 0; m < running; m++) {
            const Sequence *q = group_member(p, group, m);
            const int64_t row = q->row + row_at(q, d, s), at = row * 2 * h + d * h;
            const int64_t before = s ? (q->row + row_at(q, d, s - 1)) * 2 * h + d * h : 0;
            float *gates = v->gates[d] + row * 4 * h, *carry = t->state + m * h, *projected = t->sum + m * wide;
            if (!p->s.lstm) gru_cell_backward(h, gates, s ? v->states + before : p->zeros, t->d_states + at, carry, projected);
            else lstm_cell_backward(h, gates, v->cells + at, s ? v->cells + before : p->zeros, t->d_states + at, carry,
                                    t->cell + m * h, projected);
        }
        multiply(running, wide, h, t->sum, wide, p->wh_back[d], t->state, h, t->state, h);
    }
}

/* The derivatives of one direction's projections to those of its weights and of its input, (rows2, c2). */
static void recurrent_gradients(const Plan *p, const Sequence *q, int d, const Scratch *t, const Activations *v, const Sums *g) {
    const int64_t h = p->h, wide = p->wide, c2 = p->c2, steps = q->steps;
    const float *gates = v->gates[d] + q->row * 4 * h, *recurrent = gates + (p->s.lstm ? 0 : h);
    const float *x2 = v->x2 + q->row * c2, *states = v->states + q->row * 2 * h + d * h;
    float *d_x2 = t->d_x2 + q->row * c2;
    multiply(steps, wide, c2, gates, 4 * h, p->wx_back[d], d ? d_x2 : p->zeros, d ? c2 : 0, d_x2, c2);
    multiply_transposed(c2, steps, wide, x2, c2, gates, 4 * h, g->wx[d], wide);
    /* A step's state before it is the row before, or after in the reverse direction; the first has none. */
    multiply_transposed(h, steps - 1, wide, states + d * 2 * h, 2 * h, recurrent + !d * 4 * h, 4 * h, g->wh[d], wide);
    for (int64_t j = 0; j < 4 * h; j += LANES) {
        vec sum = load(g->b[d] + j);
        for (int64_t row = 0; row < steps; row++) sum += load(gates + row * 4 * h + j);
        store(g->b[d] + j, sum);
    }
}

static void recurrent_gradient(const Plan *p, int d, const Sums *g, const Tensors *to) {
    const int64_t units = p->s.hidden, inputs = p->s.conv2_channels, h = p->h, shift = p->s.lstm ? 0 : h;
    for (int64_t gate = 0; gate < gate_count(p); gate++) {
        const int64_t x = input_place(p, gate) * h, r = recurrent_place(p, gate) * h;
        for (int64_t u = 0; u < units; u++) {
            for (int64_t i = 0; i < inputs; i++)
                to->w_ih[d][(gate * units + u) * inputs + i] = g->wx[d][i * p->wide + x + u];
            for (int64_t i = 0; i < units; i++)
                to->w_hh[d][(gate * units + u) * units + i] = g->wh[d][i * p->wide + r + u];
            to->b_ih[d][gate * units + u] = g->b[d][x + u];
            to->b_hh[d][gate * units + u] = g->b[d][shift + r + u];
        }
    }
}

/* ---- Attention: states = F.relu(states); alpha = softmax(v . tanh(w states + b)); pooled = alpha @ states. */

static void pack_attention(const Plan *p, const Tensors *w) {
    const int64_t units = p->s.hidden, size = p->s.attention;
    memset(p->aw, 0, 2 * p->h * p->a * sizeof(float));
    memset(p->ab, 0, p->a * sizeof(float)), memset(p->av, 0, p->a * sizeof(float));
    for (int d = 0; d < 2; d++)
        pack(units, size, w->attention_w + d * units, 1, 2 * units, d * p->h, 0, 2 * p->h, p->a, p->aw);
    memcpy(p->ab, w->attention_b, size * sizeof(float)), memcpy(p->av, w->attention_v, size * sizeof(float));
}
static void pack_attention_back(const Plan *p, const Tensors *w) {
    const int64_t units = p->s.hidden, size = p->s.attention;
    memset(p->aw_back, 0, 2 * p->h * p->a * sizeof(float));
    for (int d = 0; d < 2; d++)
        pack(size, units, w->attention_w + d * units, 2 * units, 1, 0, d * p->h, p->a, 2 * p->h, p->aw_back);
}

INLINE vec activated(const Plan *p, vec x) { return p->s.relu ? pick(x <= 0, (vec){0}, x) : x; }

/* `rows` activated states: F.relu, or the states themselves. */
static const float *activate(const Plan *p, const float *states, int64_t rows, float *out) {
    if (!p->s.relu) return states;
    for (int64_t i = 0; i < rows * 2 * p->h; i += LANES) store(out + i, activated(p, load(states + i)));
    return out;
}

static void softmax(float *x, int64_t n) {
    float highest = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) highest = x[i] > highest ? x[i] : highest;
    for (int64_t i = 0; i < n; i++) x[i] = expf(x[i] - highest), sum += x[i];
    for (int64_t i = 0; i < n; i++) x[i] /= sum;
}

static void attention_forward(const Plan *p, const Sequence *q, Scratch *t, const Activations *v, float *pooled) {
    const int64_t wide = 2 * p->h, a = p->a;
    const float *states = v->states + q->row * wide;
    float *alpha = v->alpha + q->row;
    for (int64_t first = 0; first < q->steps; first += BLOCK) {
        const int64_t rows = min_of(BLOCK, q->steps - first);
        float *hidden = v->hidden + (p->b.keep ? (q->row + first) * a : 0);
        const float *x = activate(p, states + first * wide, rows, t->rectified);
        multiply(rows, wide, a, x, wide, p->aw, p->ab, 0, hidden, a);
        for (int64_t i = 0; i < rows; i++) {
            vec score = {0};
            for (int64_t j = 0; j < a; j += LANES) {
                const vec u = tanh_of(load(hidden + i * a + j));
                store(hidden + i * a + j, u), score += u * load(p->av + j);
            }
            alpha[first + i] = total(score);
        }
    }
    softmax(alpha, q->steps);
    for (int64_t j = 0; j < wide; j += LANES) {
        vec sum = {0};
        for (int64_t i = 0; i < q->steps; i++) sum += alpha[i] * activated(p, load(states + i * wide + j));
        store(pooled + j, sum);
    }
}

/* From d_pooled, (2 h), to t->d_states, adding to the weights' sums. */
static void attention_backward(const Plan *p, const Sequence *q, Scratch *t, const Activations *v, const float *d_pooled,
                               const Sums *g) {
    const int64_t wide = 2 * p->h, a = p->a;
    const float *states = v->states + q->row * wide, *alpha = v->alpha + q->row;
    float *d_states = t->d_states + q->row * wide, *d_alpha = t->weight, mean = 0;
    for (int64_t i = 0; i < q->steps; i++) {
        vec sum = {0};
        for (int64_t j = 0; j < wide; j += LANES) sum += activated(p, load(states + i * wide + j)) * load(d_pooled + j);
        d_alpha[i] = total(sum), mean += alpha[i] * d_alpha[i];
    }
    for (int64_t first = 0; first < q->steps; first += BLOCK) {
        const int64_t rows = min_of(BLOCK, q->steps - first);
        float *hidden = v->hidden + (q->row + first) * a, *d = d_states + first * wide;
        for (int64_t i = 0; i < rows; i++) {
            const float d_score = alpha[first + i] * (d_alpha[first + i] - mean);
            for (int64_t j = 0; j < a; j += LANES) {
                const vec u = load(hidden + i * a + j), d_u = d_score * load(p->av + j) * (1 - u * u);
                store(g->av + j, load(g->av + j) + d_score * u), store(g->ab + j, load(g->ab + j) + d_u);
                store(hidden + i * a + j, d_u);
            }
            for (int64_t j = 0; j < wide; j += LANES) store(d + i * wide + j, alpha[first + i] * load(d_pooled + j));
        }
        multiply(rows, a, wide, hidden, a, p->aw_back, d, wide, d, wide);
        const float *x = activate(p, states + first * wide, rows, t->rectified);
        multiply_transposed(wide, rows, a, x, wide, hidden, a, g->aw, a);
        if (p->s.relu)
            for (int64_t i = 0; i < rows * wide; i += LANES)
                store(d + i, pick(load(states + first * wide + i) <= 0, (vec){0}, load(d + i)));
    }
}

static void attention_gradient(const Plan *p, const Sums *g, const Tensors *to) {
    const int64_t units = p->s.hidden, size = p->s.attention;
    for (int64_t i = 0; i < size; i++) {
        to->attention_b[i] = g->ab[i], to->attention_v[i] = g->av[i];
        for (int d = 0; d < 2; d++)
            for (int64_t u = 0; u < units; u++)
                to->attention_w[i * 2 * units + d * units + u] = g->aw[(d * p->h + u) * p->a + i];
    }
}

/* ---- Without attention: the last state of each direction, which the reverse one has at the first step. */

static void last_forward(const Plan *p, const Sequence *q, const Activations *v, float *pooled) {
    const int64_t h = p->h;
    const float *forward = v->states + (q->row + q->steps - 1) * 2 * h, *reverse = v->states + q->row * 2 * h + h;
    for (int64_t j = 0; j < h; j += LANES) {
        store(pooled + j, activated(p, load(forward + j)));
        store(pooled + h + j, activated(p, load(reverse + j)));
    }
}

static void last_backward(const Plan *p, const Sequence *q, Scratch *t, const Activations *v, const float *d_pooled) {
    const int64_t h = p->h, last = (q->row + q->steps - 1) * 2 * h, first = q->row * 2 * h + h;
    memset(t->d_states + q->row * 2 * h, 0, q->steps * 2 * h * sizeof(float));
    for (int64_t j = 0; j < h; j += LANES) {
        const vec dead = {0}, d = load(d_pooled + j), e = load(d_pooled + h + j);
        store(t->d_states + last + j, p->s.relu ? pick(load(v->states + last + j) <= 0, dead, d) : d);
        store(t->d_states + first + j, p->s.relu ? pick(load(v->states + first + j) <= 0, dead, e) : e);
    }
}

/* ---- A group through all layers. */

/* Returns 0 if a code is unknown. `pooled` is (sequences, 2 hidden), `alpha` (sequences, alpha_width) or NULL. */
static int group_forward(const Plan *p, int64_t group, Scratch *t, float *pooled, float *alpha, int64_t alpha_width) {
    const Activations *v = p->b.keep ? p->activations + group : &t->activations;
    const int64_t count = group_count(p, group), units = p->s.hidden;
    if (!count) return 1; /* of the last round there may be fewer sequences than threads */
    for (int64_t m = 0; m < count; m++) {
        const Sequence *q = group_member(p, group, m);
        if (!spell(p, q, t)) return 0;
        float *x1 = v->x1 + q->row1 * p->c1;
        conv1_forward(p, q, t, x1, v->arg1 ? v->arg1 + q->row1 * p->c1 : NULL);
        conv2_forward(p, q, t, x1, v->x2 + q->row * p->c2, v->arg2 ? v->arg2 + q->row * p->c2 : NULL);
    }
    for (int d = 0; d < 2; d++) recurrent_forward(p, group, d, t, v);
    for (int64_t m = 0; m < count; m++) {
        const Sequence *q = group_member(p, group, m);
        if (p->a) attention_forward(p, q, t, v, t->pooled);
        else last_forward(p, q, v, t->pooled);
        for (int d = 0; d < 2; d++)
            memcpy(pooled + (q->index * 2 + d) * units, t->pooled + d * p->h, units * sizeof(float));
        if (!alpha) continue;
        memcpy(alpha + q->index * alpha_width, v->alpha + q->row, q->steps * sizeof(float));
        memset(alpha + q->index * alpha_width + q->steps, 0, (alpha_width - q->steps) * sizeof(float));
    }
    return 1;
}

static void group_backward(const Plan *p, int64_t group, Scratch *t, const float *d_pooled, const Sums *g) {
    const Activations *v = p->activations + group;
    const int64_t count = group_count(p, group), units = p->s.hidden;
    if (!count) return;
    for (int64_t m = 0; m < count; m++) {
        const Sequence *q = group_member(p, group, m);
        memset(t->pooled, 0, 2 * p->h * sizeof(float));
        for (int d = 0; d < 2; d++)
            memcpy(t->pooled + d * p->h, d_pooled + (q->index * 2 + d) * units, units * sizeof(float));
        if (p->a) attention_backward(p, q, t, v, t->pooled, g);
        else last_backward(p, q, t, v, t->pooled);
    }
    for (int d = 0; d < 2; d++) {
        recurrent_backward(p, group, d, t, v);
        for (int64_t m = 0; m < count; m++) recurrent_gradients(p, group_member(p, group, m), d, t, v, g);
    }
    for (int64_t m = 0; m < count; m++) {
        const Sequence *q = group_member(p, group, m);
        conv2_backward(p, q, t, v->x1 + q->row1 * p->c1, v->arg2 + q->row * p->c2, t->d_x2 + q->row * p->c2, g);
        spell(p, q, t);
        conv1_backward(p, q, t, t->d_x1, v->arg1 + q->row1 * p->c1, g);
    }
}

/* ---- What the caller calls. */

/* Bytes of workspace that forward, and backward after it, need for this batch. */
int64_t rnatracker_workspace(const Sizes *sizes, const Batch *batch) {
    Plan plan;
    const int64_t size = make_plan(&plan, sizes, batch, NULL);
    drop_plan(&plan);
    return size;
}

/* Pool the states of each sequence: pooled (sequences, 2 hidden). alpha, (sequences, alpha_width), gets the attention
 * weights, zeros after them; NULL if not wanted. The workspace is aligned to ALIGN bytes; if batch->keep, it holds what
 * backward needs. Returns 0 if a code is none that rnatracker/data/encoding.py knows; the outputs are then undefined. */
int rnatracker_forward(const Sizes *sizes, const Batch *batch, const Tensors *weights, void *workspace, float *pooled,
                       float *alpha, int64_t alpha_width) {
    Plan plan;
    make_plan(&plan, sizes, batch, workspace);
    const Plan *p = &plan;
    int known = 1;
    memset(p->zeros, 0, max_of(max_of(p->c1, p->c2), max_of(4 * p->h, p->a)) * sizeof(float));
#pragma omp parallel num_threads((int)p->threads)
    {
#pragma omp for schedule(static, 1)
        for (int task = 0; task < 5; task++) {
            if (task < 2) pack_recurrent(p, task, weights);
            else if (task == 2) pack_conv1(p, weights->conv1, weights->codon_bias);
            else if (task == 3) pack_conv2(p, weights->conv2);
            else if (p->a) pack_attention(p, weights);
        }
        Scratch *const mine = p->scratch + omp_get_thread_num();
        int unknown = 0;
        if (p->b.keep) { /* each thread the groups that it goes back over: they may still be in its cache */
#pragma omp for schedule(static, 1)
            for (int64_t group = 0; group < p->groups; group++)
                unknown |= !group_forward(p, group, mine, pooled, alpha, alpha_width);
        } else { /* whoever is free: cores may be busy otherwise */
#pragma omp for schedule(dynamic, 1)
            for (int64_t group = 0; group < p->groups; group++)
                unknown |= !group_forward(p, group, mine, pooled, alpha, alpha_width);
        }
        if (unknown) {
#pragma omp atomic write
            known = 0;
        }
    }
    drop_plan(&plan);
    return known;
}

/* Backward of rnatracker_forward, once, with the same sizes, batch, weights and workspace: from d_pooled,
 * (sequences, 2 hidden), to the gradients of all weights. Which thread does which group is fixed, so that a fixed number
 * of threads gives the same bits. */
void rnatracker_backward(const Sizes *sizes, const Batch *batch, const Tensors *weights, void *workspace,
                         const float *d_pooled, const Tensors *gradients) {
    Plan plan;
    make_plan(&plan, sizes, batch, workspace);
    const Plan *p = &plan;
    const Sums first = sums_of(p, 0);
#pragma omp parallel num_threads((int)p->threads)
    {
        const int thread = omp_get_thread_num();
        const Sums mine = sums_of(p, thread);
        for (int64_t t = thread; t < p->threads; t += omp_get_num_threads())
            memset(p->sums + t * p->sums_size, 0, p->sums_size * sizeof(float));
#pragma omp for schedule(static, 1)
        for (int task = 0; task < 4; task++) {
            if (task < 2) pack_recurrent_back(p, task, weights);
            else if (task == 2) pack_conv2_back(p, weights->conv2);
            else if (p->a) pack_attention_back(p, weights);
        }
#pragma omp for schedule(static, 1)
        for (int64_t group = 0; group < p->groups; group++) group_backward(p, group, p->scratch + thread, d_pooled, &mine);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < p->sums_size; i += LANES) /* blocks of sums are multiples of ALIGN bytes */
            for (int64_t t = 1; t < p->threads; t++)
                store(p->sums + i, load(p->sums + i) + load(p->sums + t * p->sums_size + i));
#pragma omp for schedule(static, 1)
        for (int task = 0; task < 5; task++) {
            if (task < 2) recurrent_gradient(p, task, &first, gradients);
            else if (task == 2) conv1_gradient(p, &first, gradients->conv1, gradients->codon_bias);
            else if (task == 3) conv2_gradient(p, &first, gradients->conv2);
            else if (p->a) attention_gradient(p, &first, gradients);
        }
    }
    drop_plan(&plan);
}
