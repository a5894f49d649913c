// Products of bfloat16 matrices, summed in float32, 16 x 16 results at a time: by the processor's
// matrix unit (AMX), or by its products of bfloat16 pairs (AVX512-BF16).
//
// Both want the right-hand matrix in pairs: (K, N) as (K / 2, N, 2), so that what two neighbouring
// rows hold in a column lies side by side. "row" is how far apart rows lie, in numbers.
#pragma once
#include "simd.h"

typedef uint16_t bf16;
constexpr int TILE = 16;

#if defined(__AMX_BF16__) && !defined(NO_TILES)
#include <sys/syscall.h>
#include <unistd.h>

// Asks the system for the tile registers; 0 where it does not give them.
extern "C" int tiles_are_given() {
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

// GCC's intrinsics do not tell the compiler that they read memory: it must not hold stores back.
inline void finish_stores() { asm volatile("" ::: "memory"); }

// Tiles as these products need them while it lives; then as they were.
struct TileSetup {
    struct alignas(64) Shape {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } before = {};
    TileSetup() {
        Shape shape = {};
        shape.palette = 1;
        for (int i = 0; i < 8; i++) {
            shape.row_bytes[i] = 64;
            shape.rows[i] = TILE;
        }
        _tile_storeconfig(&before);
        finish_stores();
        _tile_loadconfig(&shape);
    }
    ~TileSetup() {
        finish_stores();
        if (before.palette)
            _tile_loadconfig(&before);
        else
            _tile_release();
    }
};

// c = a b or c + a b for MT x NT tiles. Tiles 0 to 3 hold sums, 4 and 5 a's, 6 and 7 b's.
template <int MT, int NT>
inline void multiply_tiles(float *c, int c_row, const bf16 *a, int a_row, const bf16 *b, int b_row,
                           int K, bool add) {
    float *c1 = c + TILE * c_row;
    finish_stores();
    if (add) {
        _tile_loadd(0, c, c_row * 4);
        if (NT == 2) _tile_loadd(1, c + TILE, c_row * 4);
        if (MT == 2) _tile_loadd(2, c1, c_row * 4);
        if (MT == 2 && NT == 2) _tile_loadd(3, c1 + TILE, c_row * 4);
    } else {
        _tile_zero(0);
        if (NT == 2) _tile_zero(1);
        if (MT == 2) _tile_zero(2);
        if (MT == 2 && NT == 2) _tile_zero(3);
    }
    for (int k = 0; k < K; k += 2 * TILE) {
        _tile_loadd(4, a + k, a_row * 2);
        _tile_loadd(6, b + k * b_row, b_row * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (NT == 2) {
            _tile_loadd(7, b + k * b_row + 2 * TILE, b_row * 4);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (MT == 2) {
            _tile_loadd(5, a + TILE * a_row + k, a_row * 2);
            _tile_dpbf16ps(2, 5, 6);
            if (NT == 2) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, c_row * 4);
    if (NT == 2) _tile_stored(1, c + TILE, c_row * 4);
    if (MT == 2) _tile_stored(2, c1, c_row * 4);
    if (MT == 2 && NT == 2) _tile_stored(3, c1 + TILE, c_row * 4);
    finish_stores();
}

#elif defined(__AVX512BF16__)

extern "C" int tiles_are_given() { return 1; }
struct TileSetup {
    TileSetup() {}
};

template <int MT, int NT>
inline void multiply_tiles(float *c, int c_row, const bf16 *a, int a_row, const bf16 *b, int b_row,
                           int K, bool add) {
    constexpr int ROWS = 8;
    for (int m = 0; m < MT * TILE; m += ROWS) {
        vec sums[ROWS][NT];
        for (int r = 0; r < ROWS; r++)
            for (int n = 0; n < NT; n++)
                sums[r][n] = add ? AT(c + (m + r) * c_row + n * TILE) : vec{};
        for (int k = 0; k < K; k += 2)
            for (int n = 0; n < NT; n++) {
                bits right = *(const loose_bits *)(b + k * b_row + 2 * n * TILE);
                for (int r = 0; r < ROWS; r++) {
                    int left;
                    memcpy(&left, a + (m + r) * a_row + k, 4);
                    sums[r][n] = (vec)_mm512_dpbf16_ps((__m512)sums[r][n],
                                                       (__m512bh)_mm512_set1_epi32(left),
                                                       (__m512bh)right);
                }
            }
        for (int r = 0; r < ROWS; r++)
            for (int n = 0; n < NT; n++) AT(c + (m + r) * c_row + n * TILE) = sums[r][n];
    }
}

#else

// By float32, on any processor: correct, and there to be tested; not fast.
extern "C" int tiles_are_given() { return 1; }
struct TileSetup {
    TileSetup() {}
};

template <int MT, int NT>
inline void multiply_tiles(float *c, int c_row, const bf16 *a, int a_row, const bf16 *b, int b_row,
                           int K, bool add) {
    for (int m = 0; m < MT * TILE; m++)
        for (int n = 0; n < NT * TILE; n++) {
            float total = add ? c[m * c_row + n] : 0;
            for (int k = 0; k < K; k++)
                total += load_one(a[m * a_row + k]) *
                         load_one(b[k / 2 * 2 * b_row + 2 * n + k % 2]);
            c[m * c_row + n] = total;
        }
}

#endif

// c = a b, or c + a b: (rows, inner) x (inner, columns); multiples of 16, inner of 32.
inline void multiply(int rows, int columns, int inner, float *c, int c_row, const bf16 *a,
                     int a_row, const bf16 *b, int b_row, bool add = false) {
    for (int m = 0; m < rows; m += 2 * TILE)
        for (int n = 0; n < columns; n += 2 * TILE) {
            float *to = c + m * c_row + n;
            const bf16 *left = a + m * a_row, *right = b + 2 * n;
            bool two_rows = m + TILE < rows, two_columns = n + TILE < columns;
            if (two_rows && two_columns)
                multiply_tiles<2, 2>(to, c_row, left, a_row, right, b_row, inner, add);
            else if (two_rows)
                multiply_tiles<2, 1>(to, c_row, left, a_row, right, b_row, inner, add);
            else if (two_columns)
                multiply_tiles<1, 2>(to, c_row, left, a_row, right, b_row, inner, add);
            else
                multiply_tiles<1, 1>(to, c_row, left, a_row, right, b_row, inner, add);
        }
}

// The first `rows` rows of x (rows, columns) in pairs; zeros from there to `inner` rows.
inline void pair_rows(bf16 *out, const bf16 *x, int row, int rows, int inner, int columns) {
    for (int k = 0; k < inner; k += 2)
        for (int n = 0; n < columns; n += LANES) {
            bits pair = {};
            if (k < rows) pair = widen(*(const halves *)(x + k * row + n));
            if (k + 1 < rows) pair |= widen(*(const halves *)(x + (k + 1) * row + n)) << 16;
            *(loose_bits *)(out + k * columns + 2 * n) = pair;
        }
}

// The transpose of a matrix in pairs (inner, columns): (columns, inner), as a left-hand matrix.
inline void transpose_pairs(bf16 *out, const bf16 *paired, int inner, int columns) {
    for (int k = 0; k < inner; k += 2 * LANES)
        for (int n = 0; n < columns; n += LANES) {
            vec x[LANES];
            for (int i = 0; i < LANES; i++)
                x[i] = (vec)*(const loose_bits *)(paired + (k + 2 * i) * columns + 2 * n);
            transpose(x);
            for (int i = 0; i < LANES; i++) *(loose_bits *)(out + (n + i) * inner + k) = (bits)x[i];
        }
}

// The transpose of x (columns, inner) in pairs, with zeros up to a multiple of 32 rows. Reads the
// rows of x as far, which is why behind its last number there must be 16 more.
inline void pair_columns(bf16 *out, const bf16 *x, int row, int columns, int inner) {
    for (int k = 0; k < round_up(inner, 2 * TILE); k += 2 * LANES)
        for (int n = 0; n < columns; n += LANES) {
            vec word[LANES];
            for (int i = 0; i < LANES; i++)
                word[i] = k < inner ? (vec)*(const loose_bits *)(x + (n + i) * row + k) : vec{};
            transpose(word);
            for (int i = 0; i < LANES; i++)
                *(loose_bits *)(out + (k + 2 * i) * columns + 2 * n) =
                    k + 2 * i < inner ? (bits)word[i] : bits{};
        }
}
