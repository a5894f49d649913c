// Linear attention, forward and backward, of all tokens or causal. Each sum takes one pass over
// memory; feature maps are applied on the way, and mapped tokens never leave the cache.
//
// With phi the map, S = sum_j phi(k_j) v_j^T, z = sum_j phi(k_j), n_i = phi(q_i) . z and
// y_i = phi(q_i) S / n_i. For an incoming gradient g, with u_i = g_i / n_i and
// dn_i = -(u_i . y_i) = -(phi(q_i) . S u_i) / n_i, which spares reading y,
//
//     dphi(q_i) = S u_i + dn_i z       dS = sum_i phi(q_i) u_i^T
//     dphi(k_j) = dS v_j + dz          dz = sum_i dn_i phi(q_i)        dv_j = phi(k_j) dS
//
// Causal attention sums over j <= i, and backwards over i >= j. S and dS are carried from chunk to
// chunk. Inside a chunk there are the weights phi(q_i) . phi(k_j) and their gradients u_i . v_j, zero
// for j > i (Yang et al. 2024, "Gated Linear Attention Transformers", section 2.3, without the gates).
// z and dz are summed token by token.
//
// Compiled for one HW2_WIDTH of a head, HW2_CHUNK of tokens and HW2_ELEMENT (float, or uint16_t:
// bfloat16); all arithmetic is float32. Threads share out heads or, where these are few, parts of
// each head's tokens: the sums of each part are taken first.
//
// Layouts: tokens (B, H, T, D) of any strides, but D's is one; normalizers n and their gradients dn
// (B, H, T); sums and gradients, S and z or dS and dz of each part, (B, H, parts).
#include <algorithm>
#include <type_traits>

#include "simd.h"
#include "threads.h"

// Always inlined: otherwise the compiler takes a call that only prefetches for one without effect,
// and drops it.
#define INLINE __attribute__((always_inline))

constexpr int D = HW2_WIDTH, C = HW2_CHUNK;
typedef HW2_ELEMENT Element;

// A token of one head: DP numbers in DV vectors, WHOLE of which it fills. At least 8 numbers, so
// that the narrowest registers have whole tiles, too.
constexpr int DP = round_up(D, std::max(LANES, 8)), DV = DP / LANES, WHOLE = D / LANES;

// A tile of a product, R rows of V vectors, is summed in registers. Many sums hide how long an
// addition takes, and share what is loaded; but what is loaded needs registers, too.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int SUMS = 16;  // of 32 registers
#else
constexpr int SUMS = 8;  // of 16
#endif
// With few registers 4 x 3 is the best tile of long tokens, whatever is left over at their end.
constexpr int V = SUMS == 8 && DV > 4 ? 3 : DV % 4 == 0 ? 4 : DV % 3 == 0 ? 3 : DV % 2 == 0 ? 2 : 1;
constexpr int R = V == 3 ? 4 : SUMS / V;
static_assert(DP % R == 0 && C % R == 0 && C % LANES == 0, "whole tiles");

typedef float Tokens[C][DP];  // behind the last token and behind width D: zeros
typedef float Columns[DP][C];
typedef float Rows[R][DP];
typedef float Weights[R][C];
typedef float Matrix[DP][DP];
struct Sums {
    Matrix S;
    float z[DP];
};
struct View {
    Element *data;
    long batch, head, token;  // strides
};
struct Head {
    Element *data;
    long stride;
    Head(const View &x, long b, long h)
        : data(x.data + b * x.batch + h * x.head), stride(x.token) {}
    Element *operator[](long t) const { return data + t * stride; }
};
enum Map { IDENTITY, ELU1, RELU, SOFTMAX };

// --------------------------------------------------------------------------------------
// One token

typedef vec Token[DV];

static inline void get(Token &x, const float *from) {
    for (int c = 0; c < DV; c++) x[c] = AT(from + c * LANES);
}
static inline void put(float *to, const Token &x) {
    for (int c = 0; c < DV; c++) AT(to + c * LANES) = x[c];
}
// From and to memory, where the next numbers after width D are not the token's.
static inline void read(Token &x, const Element *from) {
    for (int c = 0; c < WHOLE; c++) x[c] = load(from + c * LANES);
    for (int c = WHOLE; c < DV; c++) x[c] = vec{};
    for (int d = WHOLE * LANES; d < D; d++) x[WHOLE][d % LANES] = load_one(from[d]);
}
static inline void write(Element *to, const Token &x) {
    for (int c = 0; c < WHOLE; c++) store(to + c * LANES, x[c]);
    for (int d = WHOLE * LANES; d < D; d++) store_one(to + d, x[WHOLE][d % LANES]);
}
static inline vec dot(const Token &x, const Token &y) {
    vec total = x[0] * y[0];
    for (int c = 1; c < DV; c++) total += x[c] * y[c];
    return sum(total);
}

// Vector c of a token that is 1 behind width D, and 0 before.
static inline vec outside(int c) {
    vec x = {};
    for (int d = std::max(D, c * LANES); d < (c + 1) * LANES; d++) x[d % LANES] = 1;
    return x;
}
static inline void map_features(Map map, Token &x) {
    if (map == ELU1)
        for (int c = 0; c < DV; c++) x[c] = x[c] > 0 ? x[c] + 1 : exponential(x[c] > 0 ? 0 : x[c]);
    if (map == RELU)
        for (int c = 0; c < DV; c++) x[c] = x[c] < 0 ? 0 : x[c];  // NaN stays NaN
    if (map == SOFTMAX) {
        for (int c = WHOLE; c < DV; c++) x[c] -= 1e30f * outside(c);
        vec top = x[0], total = {};
        for (int c = 1; c < DV; c++) top = greater(top, x[c]);
        top = largest(top);
        for (int c = 0; c < DV; c++) total += x[c] = exponential(x[c] - top);
        vec inverse_sum = 1.0f / sum(total);
        for (int c = 0; c < DV; c++) x[c] *= inverse_sum;
    }
    if (map != IDENTITY)
        for (int c = WHOLE; c < DV; c++) x[c] *= 1 - outside(c);
}
// Turn the gradient of the map's value into the gradient of what was mapped.
static inline void pull_back(Map map, Token &gradient, const Token &value) {
    if (map == ELU1)
        for (int c = 0; c < DV; c++) gradient[c] *= value[c] < 1 ? value[c] : value[c] * 0 + 1;
    if (map == RELU)
        for (int c = 0; c < DV; c++) gradient[c] = value[c] > 0 ? gradient[c] : value[c] * 0;
    if (map == SOFTMAX) {
        vec mean = dot(gradient, value);
        for (int c = 0; c < DV; c++) gradient[c] = (gradient[c] - mean) * value[c];
    }
}

static inline void add(Token &total, float factor, const float *x) {
    for (int c = 0; c < DV; c++) total[c] += factor * AT(x + c * LANES);
}
// Write y, and return the normalizer.
static inline float divide(Element *y, const float *numerator, const Token &z, const float *query) {
    Token row, x;
    get(row, numerator);
    get(x, query);
    vec normalizer = dot(x, z), inverse_sum = 1.0f / normalizer;
    for (int c = 0; c < DV; c++) row[c] *= inverse_sum;
    write(y, row);
    return normalizer[0];
}
// dn, from S u and the query.
static inline float dn_of(const float *product, const float *query, float normalizer) {
    Token x, y;
    get(x, product);
    get(y, query);
    return -dot(x, y)[0] / normalizer;
}
// Write the gradient of what was mapped; that of the map's value is gradient + factor x.
static inline void write_back(Element *to, Map map, const float *gradient, float factor,
                              const Token &x, const float *value) {
    Token row, mapped;
    get(row, gradient);
    get(mapped, value);
    for (int c = 0; c < DV; c++) row[c] += factor * x[c];
    pull_back(map, row, mapped);
    write(to, row);
}
static inline void write(Element *to, const float *row) {
    Token x;
    get(x, row);
    write(to, x);
}

// --------------------------------------------------------------------------------------
// Some tokens

static void read(Tokens &x, Map map, const Head &from, long t, int n) {
    for (int i = 0; i < n; i++) {
        Token token;
        read(token, from[t + i]);
        map_features(map, token);
        put(x[i], token);
    }
    if (n < C) memset(x[n], 0, (C - n) * sizeof x[0]);
}
template <int ROWS, int COLUMNS>
static void transpose(float (&out)[COLUMNS][ROWS], const float (&x)[ROWS][COLUMNS]) {
    for (int r = 0; r < ROWS; r += LANES)
        for (int c = 0; c < COLUMNS; c += LANES) {
            vec block[LANES];
            for (int i = 0; i < LANES; i++) block[i] = AT(&x[r + i][c]);
            transpose(block);
            for (int i = 0; i < LANES; i++) AT(&out[c + i][r]) = block[i];
        }
}

// Ask for tokens from <= t < to, of those before `end`, while the processor is busy with others.
static inline INLINE void prefetch(const Head &x, long from, long to, long end) {
    constexpr int LINE = 64 / sizeof(Element);
    for (long t = from; t < std::min(to, end); t++)
        for (int d = 0; d < D; d += LINE) __builtin_prefetch(x[t] + d);
}

// --------------------------------------------------------------------------------------
// Products

// out = or += a b over the inner index from <= i < to: a is (ROWS, inner), b (inner, N vectors).
template <int ROWS, int N, int A_ROW, int A_INNER, int B_ROW, int OUT_ROW>
static inline INLINE void tile(float *out, bool add, const float *a, const float *b, int from,
                               int to) {
    vec total[ROWS][N];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < N; c++)
            total[r][c] = add ? AT(out + r * OUT_ROW + c * LANES) : vec{};
    for (int i = from; i < to; i++) {
        vec right[N];
        for (int c = 0; c < N; c++) right[c] = AT(b + i * B_ROW + c * LANES);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < N; c++) total[r][c] += a[r * A_ROW + i * A_INNER] * right[c];
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < N; c++) AT(out + r * OUT_ROW + c * LANES) = total[r][c];
}

// Go over a token's vectors, V at a time: tile_of(first number, how many vectors).
template <class Tile> static inline INLINE void over_width(Tile tile_of) {
    for (int c = 0; c + V <= DV; c += V) tile_of(c * LANES, std::integral_constant<int, V>());
    if constexpr (DV % V != 0)
        tile_of((DV - DV % V) * LANES, std::integral_constant<int, DV % V>());
}

// out = or += x matrix, for R tokens
static inline void times(Rows &out, bool add, const float (*x)[DP], const Matrix &matrix) {
    over_width([&](int c, auto n) INLINE {
        tile<R, n, DP, 1, DP, DP>(&out[0][c], add, x[0], &matrix[0][c], 0, DP);
    });
}

// out_r = sum over from <= s < to of weights_rs x_s
static inline void mix(Rows &out, const Weights &weights, const Tokens &x, int from, int to) {
    over_width([&](int c, auto n) INLINE {
        tile<R, n, C, 1, DP, DP>(&out[0][c], false, weights[0], &x[0][c], from, to);
    });
}

// weights_rs = x_r . columns_s
static inline void weigh(Weights &weights, const float (*x)[DP], const Columns &columns) {
    constexpr int N = std::min(C / LANES, R == 4 && V == 3 ? 2 : SUMS / R);
    for (int s = 0; s < C; s += N * LANES)
        tile<R, N, DP, 1, C, C>(&weights[0][s], false, x[0], &columns[0][s], 0, DP);
}

// total += sum over t < n of x_t y_t^T. Before each row of tiles, prefetch_tokens(from, to) asks for
// an equal part of another chunk's tokens.
template <class Prefetch>
static inline INLINE void add_outer(Matrix &total, const Tokens &x, const Tokens &y, int n,
                                    Prefetch prefetch_tokens) {
    for (int d = 0; d < DP; d += R) {
        prefetch_tokens(C * d / DP, C * (d + R) / DP);
        over_width([&](int c, auto vectors) INLINE {
            tile<R, vectors, 1, DP, DP, DP>(&total[d][c], true, &x[0][d], &y[0][c], 0, n);
        });
    }
}

// --------------------------------------------------------------------------------------
// Over all tokens

// S and z over the tokens from <= t < to
static void sum_keys(Sums &sums, Map map, const Head &k, const Head &v, long from, long to) {
    alignas(64) Tokens keys, values;
    Token z = {};
    memset(sums.S, 0, sizeof sums.S);
    for (long t = from; t < to; t += C) {
        int n = std::min<long>(C, to - t);
        read(keys, map, k, t, n);
        read(values, IDENTITY, v, t, n);
        for (int i = 0; i < n; i++) add(z, 1, keys[i]);
        add_outer(sums.S, keys, values, n, [&](int a, int b) INLINE {
            prefetch(k, t + C + a, t + C + b, to);
            prefetch(v, t + C + a, t + C + b, to);
        });
    }
    put(sums.z, z);
}

// y and the normalizers
static void read_out(const Sums &sums, Map map, const Head &q, const Head &y, float *normalizers,
                     long from, long to) {
    alignas(64) Tokens queries;
    alignas(64) Rows out;
    Token z;
    get(z, sums.z);
    for (long t = from; t < to; t += C) {
        int n = std::min<long>(C, to - t);
        read(queries, map, q, t, n);
        for (int i = 0; i < n; i += R) {
            prefetch(q, t + C + i, t + C + i + R, to);
            times(out, false, queries + i, sums.S);
            for (int r = 0; r < std::min(R, n - i); r++)
                normalizers[t + i + r] = divide(y[t + i + r], out[r], z, queries[i + r]);
        }
    }
}

// u of some tokens
static void read_upstream(Tokens &u, const Head &g, const float *normalizers, long t, int n) {
    for (int i = 0; i < n; i++) {
        Token token;
        read(token, g[t + i]);
        for (int c = 0; c < DV; c++) token[c] *= 1.0f / normalizers[t + i];
        put(u[i], token);
    }
    if (n < C) memset(u[n], 0, (C - n) * sizeof u[0]);
}

// dq and dn, and dS and dz over the tokens from <= t < to
static void use_upstream(Sums &gradients, const Sums &sums, Map map, const Head &q, const Head &g,
                         const Head &dq, const float *normalizers, float *dn, long from,
                         long to) {
    alignas(64) Matrix S_columns;
    alignas(64) Tokens queries, u;
    alignas(64) Rows out;
    Token z, dz = {};
    get(z, sums.z);
    transpose(S_columns, sums.S);
    memset(gradients.S, 0, sizeof gradients.S);
    for (long t = from; t < to; t += C) {
        int n = std::min<long>(C, to - t);
        read(queries, map, q, t, n);
        read_upstream(u, g, normalizers, t, n);
        for (int i = 0; i < n; i += R) {
            prefetch(q, t + C + i, t + C + i + R, to);
            times(out, false, u + i, S_columns);
            for (int r = 0; r < std::min(R, n - i); r++) {
                dn[t + i + r] = dn_of(out[r], queries[i + r], normalizers[t + i + r]);
                add(dz, dn[t + i + r], queries[i + r]);
                write_back(dq[t + i + r], map, out[r], dn[t + i + r], z, queries[i + r]);
            }
        }
        add_outer(gradients.S, queries, u, n,
                  [&](int a, int b) INLINE { prefetch(g, t + C + a, t + C + b, to); });
    }
    put(gradients.z, dz);
}

// dk and dv
static void use_keys(const Sums &gradients, Map map, const Head &k, const Head &v, const Head &dk,
                     const Head &dv, long from, long to) {
    alignas(64) Matrix dS_columns;
    alignas(64) Tokens keys, values;
    alignas(64) Rows out;
    Token dz;
    get(dz, gradients.z);
    transpose(dS_columns, gradients.S);
    for (long t = from; t < to; t += C) {
        int n = std::min<long>(C, to - t);
        read(keys, map, k, t, n);
        read(values, IDENTITY, v, t, n);
        for (int i = 0; i < n; i += R) {
            prefetch(k, t + C + i, t + C + i + R, to);
            times(out, false, values + i, dS_columns);
            for (int r = 0; r < std::min(R, n - i); r++)
                write_back(dk[t + i + r], map, out[r], 1, dz, keys[i + r]);
        }
        for (int i = 0; i < n; i += R) {
            prefetch(v, t + C + i, t + C + i + R, to);
            times(out, false, keys + i, gradients.S);
            for (int r = 0; r < std::min(R, n - i); r++) write(dv[t + i + r], out[r]);
        }
    }
}

// --------------------------------------------------------------------------------------
// Causal

// Of R rows of weights, which belong to the tokens t to t + R, keep those of the tokens up to the
// row's own, or from it on. The others among these R tokens become zero.
static inline void keep_up_to(Weights &weights, int t) {
    for (int r = 0; r < R; r++)
        for (int s = r + 1; s < R; s++) weights[r][t + s] = 0;
}
static inline void keep_from(Weights &weights, int t) {
    for (int r = 0; r < R; r++)
        for (int s = 0; s < r; s++) weights[r][t + s] = 0;
}

// y and the normalizers; sums are those before the first token
static void causal_read_out(Sums &sums, Map map, const Head &q, const Head &k, const Head &v,
                            const Head &y, float *normalizers, long from, long to) {
    alignas(64) Tokens queries, keys, values;
    alignas(64) Columns columns;
    alignas(64) Weights weights;
    alignas(64) Rows out;
    Token z;
    get(z, sums.z);
    for (long t = from; t < to; t += C) {
        int n = std::min<long>(C, to - t);
        read(queries, map, q, t, n);
        read(keys, map, k, t, n);
        read(values, IDENTITY, v, t, n);
        transpose(columns, keys);
        for (int i = 0; i < n; i += R) {
            prefetch(q, t + C + i, t + C + i + R, to);
            weigh(weights, queries + i, columns);
            keep_up_to(weights, i);
            mix(out, weights, values, 0, i + R);
            times(out, true, queries + i, sums.S);
            for (int r = 0; r < std::min(R, n - i); r++) {
                add(z, 1, keys[i + r]);
                normalizers[t + i + r] = divide(y[t + i + r], out[r], z, queries[i + r]);
            }
        }
        add_outer(sums.S, keys, values, n, [&](int a, int b) INLINE {
            prefetch(k, t + C + a, t + C + b, to);
            prefetch(v, t + C + a, t + C + b, to);
        });
    }
}

// dq and dn, and dS and dz over the tokens from <= t < to; sums are those before the first token
static void causal_use_upstream(Sums &gradients, const Sums &sums, Map map, const Head &q,
                                const Head &k, const Head &v, const Head &g, const Head &dq,
                                const float *normalizers, float *dn, long from, long to) {
    alignas(64) Matrix S_columns;
    alignas(64) Tokens queries, keys, values, u;
    alignas(64) Columns columns;
    alignas(64) Weights weights;
    alignas(64) Rows out;
    Token z, dz = {};
    get(z, sums.z);
    transpose(S_columns, sums.S);
    memset(gradients.S, 0, sizeof gradients.S);
    for (long t = from; t < to; t += C) {
        int n = std::min<long>(C, to - t);
        read(queries, map, q, t, n);
        read(keys, map, k, t, n);
        read(values, IDENTITY, v, t, n);
        read_upstream(u, g, normalizers, t, n);
        transpose(columns, values);
        for (int i = 0; i < n; i += R) {
            prefetch(q, t + C + i, t + C + i + R, to);
            prefetch(k, t + C + i, t + C + i + R, to);
            weigh(weights, u + i, columns);
            keep_up_to(weights, i);
            mix(out, weights, keys, 0, i + R);
            times(out, true, u + i, S_columns);
            for (int r = 0; r < std::min(R, n - i); r++) {
                dn[t + i + r] = dn_of(out[r], queries[i + r], normalizers[t + i + r]);
                add(z, 1, keys[i + r]);
                add(dz, dn[t + i + r], queries[i + r]);
                write_back(dq[t + i + r], map, out[r], dn[t + i + r], z, queries[i + r]);
            }
        }
        add_outer(S_columns, values, keys, n, [&](int a, int b) INLINE {
            prefetch(v, t + C + a, t + C + b, to);
            prefetch(g, t + C + a, t + C + b, to);
        });
        if (from > 0) add_outer(gradients.S, queries, u, n, [](int, int) {});
    }
    put(gradients.z, dz);
}

// dk and dv, from the last token to the first; gradients are those behind the last token
static void causal_use_keys(Sums &gradients, Map map, const Head &q, const Head &k, const Head &v,
                            const Head &g, const Head &dk, const Head &dv,
                            const float *normalizers, const float *dn, long from, long to) {
    alignas(64) Matrix dS_columns;
    alignas(64) Tokens queries, keys, values, u;
    alignas(64) Columns columns, u_columns;
    alignas(64) Weights weights;
    alignas(64) Rows out;
    Token dz;
    get(dz, gradients.z);
    for (long t = from + (to - from - 1) / C * C; t >= from; t -= C) {
        int n = std::min<long>(C, to - t);
        long before = std::max(t - C, from);
        read(queries, map, q, t, n);
        read(keys, map, k, t, n);
        read(values, IDENTITY, v, t, n);
        read_upstream(u, g, normalizers, t, n);
        transpose(dS_columns, gradients.S);
        transpose(columns, queries);
        transpose(u_columns, u);
        for (int i = (n - 1) / R * R; i >= 0; i -= R) {
            prefetch(q, before + i, before + i + R, t);
            prefetch(k, before + i, before + i + R, t);
            weigh(weights, values + i, u_columns);
            keep_from(weights, i);
            mix(out, weights, queries, i, C);
            times(out, true, values + i, dS_columns);
            for (int r = std::min(R, n - i) - 1; r >= 0; r--) {
                add(dz, dn[t + i + r], queries[i + r]);
                write_back(dk[t + i + r], map, out[r], 1, dz, keys[i + r]);
            }
            weigh(weights, keys + i, columns);
            keep_from(weights, i);
            mix(out, weights, u, i, C);
            times(out, true, keys + i, gradients.S);
            for (int r = 0; r < std::min(R, n - i); r++) write(dv[t + i + r], out[r]);
        }
        add_outer(gradients.S, queries, u, n, [&](int a, int b) INLINE {
            prefetch(v, before + a, before + b, t);
            prefetch(g, before + a, before + b, t);
        });
    }
}

// --------------------------------------------------------------------------------------
// All heads

// Parts of heads, shared out over threads: work(b, h, part) for all of them.
struct Shares {
    long B, H, T, parts, threads;
    Parallel parallel;

    long start(long part) const { return std::min((T + C - 1) / C * part / parts * C, T); }

    template <class Work> void run(Work work) const {
        share_out(B * H * parts, threads, parallel,
                  [&](long i) { work(i / parts / H, i / parts % H, i % parts); });
    }

    // `second` needs what `first` has computed for all parts of its head.
    template <class First, class Second> void run(First first, Second second) const {
        if (parts > 1) {
            run(first);
            run(second);
        } else {
            run([&](long b, long h, long part) {
                first(b, h, part);
                second(b, h, part);
            });
        }
    }
};

// Add up the sums of the parts from <= part < to of one head.
static void gather(Sums &total, const Sums *of_head, long from, long to) {
    total = Sums{};
    for (long part = from; part < to; part++)
        for (long i = 0; i < (long)(sizeof total / sizeof(float)); i += LANES)
            AT((float *)&total + i) += AT((const float *)&of_head[part] + i);
}

extern "C" void linear_forward(View q, View k, View v, View y, float *normalizers, Sums *sums,
                               int map_number, int causal, long B, long H, long T, long parts,
                               long threads, Parallel parallel) {
    Shares shares = {B, H, T, parts, threads, parallel};
    Map map = (Map)map_number;
    auto sum = [&](long b, long h, long part) {
        if (causal && part + 1 == parts) return;  // nobody comes after it
        sum_keys(sums[(b * H + h) * parts + part], map, {k, b, h}, {v, b, h}, shares.start(part),
                 shares.start(part + 1));
    };
    auto use = [&](long b, long h, long part) {
        alignas(64) Sums total;
        gather(total, sums + (b * H + h) * parts, 0, causal ? part : parts);
        float *n = normalizers + (b * H + h) * T;
        long from = shares.start(part), to = shares.start(part + 1);
        if (causal)
            causal_read_out(total, map, {q, b, h}, {k, b, h}, {v, b, h}, {y, b, h}, n, from, to);
        else
            read_out(total, map, {q, b, h}, {y, b, h}, n, from, to);
    };
    shares.run(sum, use);
}

extern "C" void linear_backward(View q, View k, View v, View g, View dq, View dk, View dv,
                                const float *normalizers, float *dnormalizers, const Sums *sums,
                                Sums *gradients, int map_number, int causal, long B, long H, long T,
                                long parts, long threads, Parallel parallel) {
    Shares shares = {B, H, T, parts, threads, parallel};
    Map map = (Map)map_number;
    auto sum = [&](long b, long h, long part) {
        alignas(64) Sums total;
        gather(total, sums + (b * H + h) * parts, 0, causal ? part : parts);
        Sums &own = gradients[(b * H + h) * parts + part];
        const float *n = normalizers + (b * H + h) * T;
        float *dn = dnormalizers + (b * H + h) * T;
        long from = shares.start(part), to = shares.start(part + 1);
        if (causal)
            causal_use_upstream(own, total, map, {q, b, h}, {k, b, h}, {v, b, h}, {g, b, h},
                                {dq, b, h}, n, dn, from, to);
        else
            use_upstream(own, total, map, {q, b, h}, {g, b, h}, {dq, b, h}, n, dn, from, to);
    };
    auto use = [&](long b, long h, long part) {
        alignas(64) Sums total;
        gather(total, gradients + (b * H + h) * parts, causal ? part + 1 : 0, parts);
        const float *n = normalizers + (b * H + h) * T, *dn = dnormalizers + (b * H + h) * T;
        long from = shares.start(part), to = shares.start(part + 1);
        if (causal)
            causal_use_keys(total, map, {q, b, h}, {k, b, h}, {v, b, h}, {g, b, h}, {dk, b, h},
                            {dv, b, h}, n, dn, from, to);
        else
            use_keys(total, map, {k, b, h}, {v, b, h}, {dk, b, h}, {dv, b, h}, from, to);
    };
    shares.run(sum, use);
}
