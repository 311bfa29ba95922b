/* Values of a stack of spline layers, and the gradient that cotangents at its outputs have by all parameters.

   y_q = b_q + Σ_p w_s[q,p] Σ_i W[q,p,i] B_i(x_p) + w_b[q,p] SiLU(x_p), then tanh where a layer is squashed; the splines
   have n equal intervals on [-1, 1] and degree k (Liu et al. 2024, arXiv:2404.19756, eq. 2.10). Each point sees the k + 1
   coefficients at work on its interval, kept for all outputs in a row: [in][n + k + 1][out], the last of the n + k + 1
   being w_b. Compiled once for double and once for float; `REAL` and `NAME` say which. */

#include <stdint.h>
#include <string.h>

#define PASTE(a, b) a##_##b
#define JOIN(a, b) PASTE(a, b)
#define FUNCTION(name) JOIN(name, NAME)
#define LANES ((int64_t)(32 / sizeof(REAL)))

typedef REAL vec __attribute__((vector_size(32)));
typedef REAL loose __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));

/* A layer: widths, intervals, degree, whether it has base terms, biases, holds inputs beyond the ends, is squashed. */
typedef struct {
    int64_t in, out, n, k, base, bias, clamp, squash;
} layer;

static inline vec load(const REAL *from) { return *(const loose *)from; }
static inline void store(REAL *to, vec value) { *(loose *)to = value; }
static inline int64_t rows_of(const layer *l) { return l->n + l->k + 1; }
static inline int64_t padded(int64_t out) { return out == 1 ? 1 : (out + LANES - 1) / LANES * LANES; }

int64_t FUNCTION(table_size)(const layer *l) { return l->in * rows_of(l) * padded(l->out) + 2 * LANES; }

static int64_t size_of(const layer *l) { return l->in * l->out * (l->n + l->k + 2 * l->base) + (l->bias ? l->out : 0); }

/* e^x to rounding for |x| <= 700, without a branch, so that loops over it are vectorised: 2^m times a Taylor sum. */
static inline double exponential(double x) {
    x = x > 700 ? 700 : x < -700 ? -700 : x;
    double shifted = x * 1.4426950408889634 + 6755399441055744.0, m = shifted - 6755399441055744.0;
    double r = x - m * 0.693145751953125 - m * 1.42860682030941723212e-6, sum = 1.0 / 6227020800;
    static const double inverse[12] = {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                       1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0};
    for (int i = 0; i < 12; i++) sum = sum * r + inverse[i];
    union { double real; int64_t bits; } power = {shifted};
    power.bits = (power.bits + 1023) << 52;
    return (sum * r + 1.0) * power.real;
}

/* SiLU of x and its derivative. */
static void silu(const REAL *x, int64_t count, REAL *value, REAL *slope) {
    for (int64_t i = 0; i < count; i++) {
        double one = x[i], sigma = 1.0 / (1.0 + exponential(-one));
        value[i] = one * sigma;
        slope[i] = sigma * (1.0 + one * (1.0 - sigma));
    }
}

static void squash(REAL *x, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        double power = exponential(2.0 * x[i]);
        x[i] = x[i] != x[i] ? x[i] : 1.0 - 2.0 / (power + 1.0);
    }
}

/* The table of a layer from its parameters, [in][n + k + 1][out]. */
static void pack(const layer *l, const REAL *theta, REAL *table) {
    int64_t width = l->n + l->k, edges = l->in * l->out, out = padded(l->out);
    const REAL *scale = theta + edges * width, *base = scale + edges;
    memset(table, 0, sizeof(REAL) * FUNCTION(table_size)(l));
    for (int64_t q = 0; q < l->out; q++)
        for (int64_t p = 0; p < l->in; p++) {
            int64_t edge = q * l->in + p;
            REAL *to = table + p * rows_of(l) * out + q, by = l->base ? scale[edge] : 1;
            for (int64_t i = 0; i < width; i++) to[i * out] = theta[edge * width + i] * by;
            if (l->base) to[width * out] = base[edge];
        }
}

/* The gradient by the parameters of a layer from that by its table. */
static void unpack(const layer *l, const REAL *theta, const REAL *table, REAL *gradient) {
    int64_t width = l->n + l->k, edges = l->in * l->out, out = padded(l->out);
    const REAL *scale = theta + edges * width;
    REAL *by_scale = gradient + edges * width, *by_base = by_scale + edges;
    for (int64_t q = 0; q < l->out; q++)
        for (int64_t p = 0; p < l->in; p++) {
            int64_t edge = q * l->in + p;
            const REAL *from = table + p * rows_of(l) * out + q;
            REAL by = l->base ? scale[edge] : 1, sum = 0;
            for (int64_t i = 0; i < width; i++) {
                gradient[edge * width + i] = from[i * out] * by;
                sum += from[i * out] * theta[edge * width + i];
            }
            if (l->base) by_scale[edge] = sum, by_base[edge] = from[width * out];
        }
}

/* Where an input lies, the basis functions at work there and their derivatives by x. */
typedef struct {
    vec value[2], slope[2];
    int64_t first;
} place;

static inline __attribute__((always_inline)) place locate(const layer *l, const vec (*pieces)[2], REAL x, int vectors,
                                                           int slopes) {
    place found;
    REAL half = (REAL)l->n / 2, position = (x + 1) * half, by = half;
    int64_t cell = !(position > 0) ? 0 : position >= l->n ? l->n - 1 : (int64_t)position;
    REAL s = position - cell - (REAL)0.5;
    if (l->clamp) {
        by = position >= 0 && position <= l->n ? half : 0;
        s = s > (REAL)0.5 ? (REAL)0.5 : s < (REAL)-0.5 ? (REAL)-0.5 : s;
    }
    for (int v = 0; v < vectors; v++) {
        vec value = pieces[l->k][v], slope = value * 0;
        for (int64_t m = l->k - 1; m >= 0; m--) {
            if (slopes) slope = slope * s + value;
            value = value * s + pieces[m][v];
        }
        found.value[v] = value;
        if (slopes) found.slope[v] = slope * by;
    }
    found.first = cell;
    return found;
}

static inline REAL sum_of(vec x) {
    REAL total = 0;
    for (int i = 0; i < LANES; i++) total += x[i];
    return total;
}

/* Outputs of a layer at N points; inputs, SiLU of them, outputs: points first. */
static inline __attribute__((always_inline)) void forward(const layer *l, const vec (*pieces)[2], const REAL *table,
                                                          const REAL *bias, int64_t points, const REAL *x,
                                                          const REAL *base, REAL *y, int vectors, place *places) {
    int64_t out = padded(l->out), rows = rows_of(l), in = l->in;
    for (int64_t t = 0; t < points; t++, x += in, base += in, y += l->out) {
        for (int64_t p = 0; p < in; p++) places[p] = locate(l, pieces, x[p], vectors, 0);
        if (out == 1) {
            vec total = {0};
            REAL rest = l->bias ? bias[0] : 0;
            for (int64_t p = 0; p < in; p++) {
                const REAL *row = table + p * rows;
                for (int v = 0; v < vectors; v++) total += places[p].value[v] * load(row + places[p].first + v * LANES);
                if (l->base) rest += base[p] * row[rows - 1];
            }
            y[0] = sum_of(total) + rest;
            continue;
        }
        for (int64_t q = 0; q < out; q += LANES) {
            vec total = {0};
            for (int64_t p = 0; p < in; p++) {
                const REAL *row = table + p * rows * out + q, *work = row + places[p].first * out;
                const REAL *value = (const REAL *)places[p].value;
                for (int64_t j = 0; j <= l->k; j++) total += value[j] * load(work + j * out);
                if (l->base) total += base[p] * load(row + (rows - 1) * out);
            }
            for (int i = 0; i < LANES && q + i < l->out; i++) y[q + i] = total[i] + (l->bias ? bias[q + i] : 0);
        }
    }
}

/* Add the gradient by the table; cotangents of the inputs too where they are asked for. */
static inline __attribute__((always_inline)) void backward(const layer *l, const vec (*pieces)[2], const REAL *table,
                                                           int64_t points, const REAL *x, const REAL *base,
                                                           const REAL *base_slope, const REAL *given, REAL *gradient,
                                                           REAL *pulled, int vectors, int moves, REAL *own) {
    int64_t out = padded(l->out), rows = rows_of(l), in = l->in;
    for (int64_t t = 0; t < points; t++, x += in, base += in, base_slope += in, given += l->out) {
        memcpy(own, given, sizeof(REAL) * l->out);
        for (int64_t p = 0; p < in; p++) {
            place at = locate(l, pieces, x[p], vectors, moves);
            int64_t start = p * rows * out, work = start + at.first * out, last = start + (rows - 1) * out;
            REAL slope = 0, through = 0;
            if (out == 1) {
                for (int v = 0; v < vectors; v++) {
                    REAL *to = gradient + work + v * LANES;
                    store(to, load(to) + at.value[v] * own[0]);
                    if (moves) slope += sum_of(at.slope[v] * load(table + work + v * LANES)) * own[0];
                }
                if (l->base) {
                    gradient[last] += base[p] * own[0];
                    through = table[last] * own[0];
                }
            } else {
                const REAL *value = (const REAL *)at.value, *change = (const REAL *)at.slope;
                vec total = {0}, rest = {0};
                for (int64_t q = 0; q < out; q += LANES) {
                    vec cotangent = load(own + q);
                    for (int64_t j = 0; j <= l->k; j++) {
                        REAL *to = gradient + work + j * out + q;
                        store(to, load(to) + value[j] * cotangent);
                        if (moves) total += change[j] * cotangent * load(table + work + j * out + q);
                    }
                    if (l->base) {
                        REAL *to = gradient + last + q;
                        store(to, load(to) + base[p] * cotangent);
                        if (moves) rest += cotangent * load(table + last + q);
                    }
                }
                if (moves) slope = sum_of(total), through = sum_of(rest);
            }
            if (moves) *pulled++ = slope + (l->base ? through * base_slope[p] : 0);
        }
    }
}

static void fill(vec (*to)[2], const REAL *pieces, int64_t k) {
    memset(to, 0, sizeof(vec) * 2 * (k + 1));
    for (int64_t m = 0; m <= k; m++)
        for (int64_t j = 0; j <= k; j++) ((REAL *)to[m])[j] = pieces[j * (k + 1) + m];
}

/* Outputs of all layers, one behind the other, at N points; `pieces` are the polynomials of the basis on an interval,
   [k + 1][k + 1] of each layer. `kept` holds, layer by layer, its outputs [N][out], and SiLU of its inputs and the
   derivative, [N][in] each, where it has base terms; `table` each layer's; `scratch` 16 numbers for each of a layer's
   inputs and 4 vectors beyond. */
void FUNCTION(stack_values)(int64_t count, const layer *layers, const REAL *pieces, const REAL *theta, int64_t points,
                            const REAL *x, REAL *kept, REAL *table, void *scratch) {
    for (int64_t k = 0; k < count; k++) {
        const layer *l = layers + k;
        vec own[8][2];
        fill(own, pieces, l->k);
        pieces += (l->k + 1) * (l->k + 1);
        pack(l, theta, table);
        REAL *y = kept, *base = y + points * l->out, *slope = base + points * l->in;
        if (l->base) silu(x, points * l->in, base, slope);
        const REAL *bias = theta + size_of(l) - l->out;
        if (l->k == 3)
            forward(&(layer){l->in, l->out, l->n, 3, l->base, l->bias, l->clamp, 0}, own, table, bias, points, x,
                    l->base ? base : x, y, 1, scratch);
        else
            forward(l, own, table, bias, points, x, l->base ? base : x, y, l->k < LANES ? 1 : 2, scratch);
        if (l->squash) squash(y, points * l->out);
        x = y;
        kept += points * (l->out + 2 * l->in * l->base);
        table += FUNCTION(table_size)(l);
        theta += size_of(l);
    }
}

/* The gradient by all parameters from cotangents [N][out] at the outputs, after `stack_values` at the same ones; these
   are overwritten. `spare` has room for two layers' cotangents, 2 N times the largest width, and one table. */
void FUNCTION(stack_gradient)(int64_t count, const layer *layers, const REAL *pieces, const REAL *theta, int64_t points,
                              const REAL *x, const REAL *kept, const REAL *table, REAL *cotangent, REAL *gradient,
                              REAL *spare, int64_t widest, void *scratch) {
    for (int64_t k = 0; k < count; k++) {
        const layer *l = layers + k;
        pieces += (l->k + 1) * (l->k + 1);
        kept += points * (l->out + 2 * l->in * l->base);
        table += FUNCTION(table_size)(l);
        theta += size_of(l);
        gradient += size_of(l);
    }
    for (int64_t k = count - 1; k >= 0; k--) {
        const layer *l = layers + k;
        vec own[8][2];
        pieces -= (l->k + 1) * (l->k + 1);
        kept -= points * (l->out + 2 * l->in * l->base);
        table -= FUNCTION(table_size)(l);
        theta -= size_of(l);
        gradient -= size_of(l);
        fill(own, pieces, l->k);
        const REAL *y = kept, *base = y + points * l->out, *slope = base + points * l->in;
        const REAL *input = k ? kept - points * (l[-1].out + 2 * l[-1].in * l[-1].base) : x;
        if (!l->base) base = slope = input;
        REAL *pulled = k ? spare + (k % 2) * points * widest : 0, *sums = spare + 2 * points * widest;
        if (l->squash)
            for (int64_t i = 0; i < points * l->out; i++) cotangent[i] *= 1 - y[i] * y[i];
        memset(sums, 0, sizeof(REAL) * FUNCTION(table_size)(l));
        memset(scratch, 0, sizeof(REAL) * (l->out + LANES));
        layer cubic = {l->in, l->out, l->n, 3, l->base, l->bias, l->clamp, 0};
        if (l->k == 3 && k)
            backward(&cubic, own, table, points, input, base, slope, cotangent, sums, pulled, 1, 1, scratch);
        else if (l->k == 3)
            backward(&cubic, own, table, points, input, base, slope, cotangent, sums, pulled, 1, 0, scratch);
        else
            backward(l, own, table, points, input, base, slope, cotangent, sums, pulled, l->k < LANES ? 1 : 2, k > 0,
                     scratch);
        unpack(l, theta, sums, gradient);
        if (l->bias) {
            REAL *by_bias = gradient + size_of(l) - l->out;
            memset(by_bias, 0, sizeof(REAL) * l->out);
            for (int64_t t = 0; t < points; t++)
                for (int64_t q = 0; q < l->out; q++) by_bias[q] += cotangent[t * l->out + q];
        }
        cotangent = pulled;
    }
}
