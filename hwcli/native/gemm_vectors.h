// Products of matrices that fit the second-level cache, by vectors of any width, summed in float32.
// Numbers are float32, or words: two bfloat16 numbers that are neighbours along the sum.
//
// A tile of results, some rows by one or two vectors, is summed in registers. The right-hand matrix
// is read by vectors along its rows. The left-hand one is read number by number, so it may have any
// strides: its transpose is the same memory with the strides exchanged, and is never copied.
#pragma once
#include "simd.h"

// Rows of a tile: as many as leave registers for a row of the right-hand matrix and a number of the
// left-hand one. x86-64 has 16 registers without AVX-512 and 32 with it, arm64 has 32.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MOST_ROWS = 12;
#else
constexpr int MOST_ROWS = 6;
#endif

// Two bfloat16 numbers, the first in the lower half, at any even address.
struct __attribute__((packed, aligned(2), may_alias)) word {
    uint32_t both;
};

template <class Number> struct Strided {
    const Number *data;
    long row, inner;  // strides
};

inline vec load_right(const float *p) { return AT(p); }
inline bits load_right(const word *p) { return *(const loose_bits *)p; }

inline vec plus_product(vec total, float left, vec right) { return total + left * right; }
inline vec plus_product(vec total, word left, bits right) {
#ifdef __AVX512BF16__
    return (vec)_mm512_dpbf16_ps((__m512)total, (__m512bh)_mm512_set1_epi32(left.both),
                                 (__m512bh)right);
#else
    bits pair = bits{} + left.both;
    total += (vec)(pair << 16) * (vec)(right << 16);
    return total + (vec)(pair & 0xffff0000) * (vec)(right & 0xffff0000);
#endif
}

// c = or += a b for ROWS rows of V vectors, over `inner` products.
template <int ROWS, int V, class Number>
static inline __attribute__((always_inline)) void tile(float *c, long c_row, Strided<Number> a,
                                                       const Number *b, long b_row, int inner,
                                                       bool add) {
    vec total[ROWS][V];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++) total[r][v] = add ? AT(c + r * c_row + v * LANES) : vec{};
    for (int k = 0; k < inner; k++) {
        decltype(load_right(b)) right[V];
        for (int v = 0; v < V; v++) right[v] = load_right(b + k * b_row + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            auto left = a.data[r * a.row + k * a.inner];
            for (int v = 0; v < V; v++) total[r][v] = plus_product(total[r][v], left, right[v]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++) AT(c + r * c_row + v * LANES) = total[r][v];
}

// The tile of as many rows as are asked for, ROWS at most.
template <int ROWS, int V, class Number>
static inline __attribute__((always_inline)) void tile_of(int rows, float *c, long c_row,
                                                          Strided<Number> a, const Number *b,
                                                          long b_row, int inner, bool add) {
    if (rows == ROWS)
        tile<ROWS, V>(c, c_row, a, b, b_row, inner, add);
    else if constexpr (ROWS > 1)
        tile_of<ROWS - 1, V>(rows, c, c_row, a, b, b_row, inner, add);
}

// Otherwise GCC copies the function for each matrix, which gains nothing and compiles a second longer.
#ifdef __clang__
#define ONE_COPY __attribute__((noinline))
#else
#define ONE_COPY __attribute__((noinline, noclone))
#endif

// Computes V vectors of columns. Rows are shared out evenly over tiles: a tile of few rows is slow.
template <int V, class Number>
ONE_COPY static void columns_of(int rows, float *c, long c_row, Strided<Number> a, const Number *b,
                                long b_row, int inner, bool add) {
    constexpr int MOST = V == 1 ? 12 : MOST_ROWS;
    for (int tiles = (rows + MOST - 1) / MOST; tiles > 0; tiles--) {
        int height = (rows + tiles - 1) / tiles;
        tile_of<MOST, V>(height, c, c_row, a, b, b_row, inner, add);
        c += height * c_row;
        a.data += height * a.row;
        rows -= height;
    }
}

// c = a b, or c + a b: (rows, inner) x (inner, columns); columns are filled up to whole vectors.
template <class Number>
static void multiply_vectors(int rows, int columns, int inner, float *c, long c_row,
                             Strided<Number> a, const Number *b, long b_row, bool add) {
    int n = 0;
    for (; n + LANES < columns; n += 2 * LANES)
        columns_of<2>(rows, c + n, c_row, a, b + n, b_row, inner, add);
    if (n < columns) columns_of<1>(rows, c + n, c_row, a, b + n, b_row, inner, add);
}

typedef Strided<float> Left;
static inline void multiply(int rows, int columns, int inner, float *c, long c_row, Left a,
                            const float *b, long b_row, bool add = false) {
    multiply_vectors(rows, columns, inner, c, c_row, a, b, b_row, add);
}
